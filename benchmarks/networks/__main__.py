"""Quantizes one network at default settings and measures it, with whichever ``nncf`` is installed; prints JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.networks import NAMES, Feed, Run


def runner(model: Any, framework: str) -> Run:
    """Runs a model on one thread."""
    if framework == "openvino":
        import openvino

        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()

        def run(feed: Feed) -> list[np.ndarray]:
            result = request.infer(feed, share_inputs=True)
            return [np.array(result[output]) for output in compiled.outputs]

        return run
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)


def latency(run: Run, feed: Feed) -> float:
    """Milliseconds that one input takes: the median of two seconds of runs."""
    times: list[float] = []
    for _ in range(3):
        run(feed)
    while len(times) < 20 or sum(times) < 2:
        start = time.perf_counter()
        run(feed)
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def loaded(path: Path, framework: str) -> Any:
    """The model of a file."""
    if framework == "openvino":
        import openvino

        return openvino.convert_model(path)
    import onnx

    return onnx.load(path)


def main() -> None:
    """Print the figures of one network in one framework."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NAMES)
    parser.add_argument("folder", type=Path, help="folder with the networks and their data")
    parser.add_argument("--framework", choices=["onnx", "openvino"], default="onnx")
    options = parser.parse_args()
    import nncf

    network = importlib.import_module(f"benchmarks.networks.{options.network}")
    with np.load(options.folder / f"{options.network}.npz") as file:
        data = {name: file[name] for name in file.files}
    items, example = network.feeds(data)
    model = loaded(options.folder / f"{options.network}.onnx", options.framework)
    start = time.perf_counter()
    quantized = nncf.quantize(model, nncf.Dataset(items))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found: dict[str, Any] = {"seconds": seconds, "peak": peak}
    runs = {"before": runner(model, options.framework), "after": runner(quantized, options.framework)}
    for name, run in runs.items():
        found[name] = {"score": network.score(run, data)}
    # in turn, so that both see the same machine
    times = {name: [latency(run, example) for _ in range(3)] for name, run in runs.items()}
    for name in runs:
        found[name]["latency"] = min(times[name])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
