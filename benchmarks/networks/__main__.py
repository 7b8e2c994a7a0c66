"""Quantizes one network at default settings and measures it, with whichever ``nncf`` is installed; prints JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import peak_memory
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


def latencies(runs: Sequence[Run], feed: Feed) -> list[float]:
    """Milliseconds of processor time that one input takes each model: the least of many runs.

    The models take turns, so that all see the same machine; what else it does costs them no processor time.
    """
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(3):
        for run in runs:
            run(feed)
    while len(times[0]) < 40 or sum(map(sum, times)) < 3:
        for run, found in zip(runs, times, strict=True):
            start = time.process_time()
            run(feed)
            found.append(time.process_time() - start)
    return [1e3 * min(found) for found in times]


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
    start = time.process_time()
    quantized = nncf.quantize(model, nncf.Dataset(items))
    seconds = time.process_time() - start
    peak = peak_memory()
    runs = [runner(each, options.framework) for each in (model, quantized)]
    scores = [network.score(run, data) for run in runs]
    times = latencies(runs, example)
    found = {"score": scores[0], "score_8": scores[1], "latency": times[0], "latency_8": times[1]}
    print(json.dumps({**found, "seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    main()
