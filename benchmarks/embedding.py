"""Quantizes all-MiniLM-L6-v2 and measures it, with whichever ``nncf`` is installed; prints JSON.

A paragraph's second half is to be found by its first one among those of all paragraphs: mean reciprocal rank.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.minilm import MODEL, TOKENS

CALIBRATION = 300


def runner(model: Any, framework: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Runs a model on one thread."""
    if framework == "openvino":
        import openvino

        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        return lambda ids, mask: np.asarray(compiled({"ids": ids, "mask": mask})[0])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: np.asarray(session.run(None, {"ids": ids, "mask": mask})[0])


def measured(model: Any, framework: str, tokens: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean reciprocal rank, and milliseconds for one paragraph."""
    run = runner(model, framework)
    sides = []
    for side in ("first", "second"):
        ids, mask = tokens[f"{side}_ids"], tokens[f"{side}_mask"]
        parts = [run(ids[start : start + 16], mask[start : start + 16]) for start in range(0, len(ids), 16)]
        vectors = np.concatenate(parts)
        sides.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    scores = sides[0] @ sides[1].T
    ranks = (scores >= np.diag(scores)[:, None]).sum(axis=1)
    times = []
    for index in range(60):
        start_time = time.perf_counter()
        run(tokens["first_ids"][index : index + 1], tokens["first_mask"][index : index + 1])
        times.append(time.perf_counter() - start_time)
    return {"accuracy": float(np.mean(1 / ranks)), "latency": 1e3 * median(times)}


def main() -> None:
    """Print the figures of one framework."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the model and the tokens")
    parser.add_argument("--framework", choices=["onnx", "openvino"], default="onnx")
    options = parser.parse_args()
    import nncf

    model: Any
    if options.framework == "openvino":
        import openvino

        model = openvino.convert_model(options.folder / MODEL)
    else:
        import onnx

        model = onnx.load(options.folder / MODEL)
    with np.load(options.folder / TOKENS) as file:
        tokens = {name: file[name] for name in file.files}
    items = [
        {"ids": tokens["first_ids"][i : i + 1], "mask": tokens["first_mask"][i : i + 1]} for i in range(CALIBRATION)
    ]
    before = measured(model, options.framework, tokens)
    start = time.perf_counter()
    quantized = nncf.quantize(model, nncf.Dataset(items))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    after = measured(quantized, options.framework, tokens)
    print(json.dumps({"before": before, "after": after, "seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    main()
