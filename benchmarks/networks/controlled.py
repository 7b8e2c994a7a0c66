"""Quantizes one network with accuracy control, with whichever ``nncf`` is installed; prints figures as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks.__main__ import loaded

SUBSET = 100
"""Items that groups are ranked on."""


def quantizers(model: Any, framework: str) -> int:
    """Number of quantizers of activations, and of weights that are stored as integers."""
    if framework == "onnx":
        names = {tensor.name for tensor in model.graph.initializer}
        nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        return sum(node.op_type == "QuantizeLinear" or node.input[0] in names for node in nodes)
    fakes = [op for op in model.get_ops() if op.get_type_name() == "FakeQuantize"]
    stored = [
        op
        for op in model.get_ops()
        if op.get_type_name() == "Constant"
        and op.get_element_type().get_type_name() in ("i8", "u8")
        and len(op.shape) > 1
    ]
    return len(fakes) + len(stored)


def measured(
    network: Any, folder: Path, framework: str, max_drop: float, per_item: bool, number: int
) -> dict[str, Any]:
    """Figures of one run, with whichever ``nncf`` is installed.

    :param number: of items to validate on; as many are calibrated on at most.
    """
    import nncf

    name = network.__name__.rpartition(".")[2]
    with np.load(folder / f"{name}.npz") as file:
        data = {key: file[key] for key in file.files}
    calibration, _ = network.feeds(data)
    calibration, items = calibration[:number], network.items(data)[:number]
    calls: list[int] = []

    def run_of(model: Any) -> Any:
        if framework == "onnx":
            import onnxruntime

            # nncf 3.4.0 gives a ModelProto
            session = model if hasattr(model, "run") else onnxruntime.InferenceSession(model.SerializeToString())
            return lambda feed: session.run(None, feed)
        return lambda feed: list(model(feed).values())

    def validate(model: Any, chosen: Iterable[Any]) -> Any:
        run = run_of(model)
        hits = [float(network.hit(run, item, data)) for item in chosen]
        calls.append(len(hits))
        metric = float(np.mean(hits))
        return (metric, hits) if per_item else metric

    def score(model: Any) -> float:
        if framework == "onnx":
            import onnxruntime

            deployed = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        else:
            import openvino

            deployed = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = validate(deployed, items)
        calls.pop()
        return found[0] if per_item else found

    path = folder / f"{name}.onnx"
    plain = nncf.quantize(loaded(path, framework), nncf.Dataset(calibration))
    cpu, start = time.process_time(), time.perf_counter()
    result = nncf.quantize_with_accuracy_control(
        loaded(path, framework),
        nncf.Dataset(calibration),
        nncf.Dataset(items, lambda item: item[0]),
        validate,
        max_drop=max_drop,
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=SUBSET),
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "original": score(loaded(path, framework)),
        "plain": score(plain),
        "result": score(result),
        "quantizers": quantizers(plain, framework),
        "kept": quantizers(result, framework),
        "full": calls.count(len(items)),
        "calls": len(calls),
        "items": sum(calls),
        "seconds": seconds,
        "cpu": cpu,
    }


def main() -> None:
    """Print the figures of one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("folder", type=Path, help="folder with the networks and their data")
    parser.add_argument("--framework", choices=["onnx", "openvino"], default="onnx")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--per-item", action="store_true", help="the function gives hits and misses, too")
    parser.add_argument("--items", type=int, default=400, help="number of items to validate on")
    options = parser.parse_args()
    network = importlib.import_module(f"benchmarks.networks.{options.network}")
    settings = (options.framework, options.max_drop, options.per_item, options.items)
    print(json.dumps(measured(network, options.folder, *settings)))


if __name__ == "__main__":
    main()
