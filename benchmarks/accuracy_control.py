"""Accuracy control: this project and nncf 3.4.0 side by side, in onnxruntime and OpenVINO.

Writes docs/benchmarks_accuracy_control.md. Needs what ``make benchmark`` installs.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import machine
from benchmarks.networks.__main__ import loaded
from benchmarks.quantization import FRAMEWORKS, OURS, REFERENCE
from benchmarks.smollm2 import CACHE
from benchmarks.weight_compression import reference_python

NAMES = ("fragile", "fragile_four", "recognition")
SUBSET = 100


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
        if op.get_type_name() == "Constant" and op.get_element_type().get_type_name() in ("i8", "u8") and len(op.shape) > 1
    ]
    return len(fakes) + len(stored)


def measured(network: Any, folder: Path, framework: str, max_drop: float, per_item: bool) -> dict[str, Any]:
    """Figures of one run, with whichever ``nncf`` is installed."""
    import nncf

    name = network.__name__.rpartition(".")[2]
    with np.load(folder / f"{name}.npz") as file:
        data = {key: file[key] for key in file.files}
    calibration, _ = network.feeds(data)
    items = network.items(data)
    calls: list[int] = []

    def run_of(model: Any) -> Any:
        if framework == "onnx":
            return lambda feed: model.run(None, feed)
        return lambda feed: [array for array in model(feed).values()]

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

            deployed = openvino.Core().compile_model(model, "CPU")
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


def row(title: str, found: dict[str, Any]) -> str:
    """A line of the table."""
    kept = found["kept"] / found["quantizers"]
    lost = found["original"] - found["result"]
    return (
        f"| {title} | {found['original']:.4f} | {found['plain']:.4f} | {found['result']:.4f} | {lost:.4f} "
        f"| {found['kept']} of {found['quantizers']} ({kept:.0%}) | {found['full']} | {found['calls']} "
        f"| {found['items']} | {found['seconds']:.0f} | {found['cpu']:.0f} |"
    )


def started(python: str, arguments: list[str]) -> dict[str, Any]:
    """Figures of one run in an environment.

    :raises SystemExit: when it fails; its output is shown.
    """
    command = [python, "-m", "benchmarks.accuracy_control", *arguments]
    print(" ".join(command), file=sys.stderr, flush=True)
    own = python == sys.executable
    environment = {name: value for name, value in os.environ.items() if own or name != "PYTHONPATH"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure, and write docs/benchmarks_accuracy_control.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of environments and models")
    parser.add_argument("--reference-python", default=os.environ.get("NNCF_REFERENCE_PYTHON"))
    parser.add_argument("--networks", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--frameworks", nargs="+", choices=[*FRAMEWORKS], default=[*FRAMEWORKS])
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks_accuracy_control.md"))
    parser.add_argument("--measure", choices=["metric", "items"], help="print the figures of one run as JSON")
    options = parser.parse_args()
    folder = options.cache / "networks"
    networks: list[Any] = [importlib.import_module(f"benchmarks.networks.{name}") for name in options.networks]
    if options.measure is not None:
        per_item = options.measure == "items"
        print(json.dumps(measured(networks[0], folder, options.frameworks[0], options.max_drop, per_item)))
        return
    folder.mkdir(parents=True, exist_ok=True)
    pythons = {OURS: sys.executable, REFERENCE: reference_python(options.reference_python, options.cache)}
    versions = ", ".join(f"{name} {version(name)}" for name in ("nncf-core", "onnxruntime", "openvino", "numpy"))
    date = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        "# Benchmarks of accuracy control", "",
        f"Written by `python -m benchmarks.accuracy_control`: `max_drop={options.max_drop}`, groups are ranked on",
        f"{SUBSET} items, all else at default settings. *Whole* runs of the validation function have all items; *calls*",
        "count those with some of them, too, and *items* how many were looked at in all calls together. The function",
        "gives a metric, or a metric and hits and misses (*with items*). Times are those of a machine with other work.",
        "", f"{date}. {machine()}. {versions}.",
    ]  # fmt: skip
    for network in networks:
        network.prepare(folder)
        name = network.__name__.rpartition(".")[2]
        lines += ["", f"## {network.TITLE}", "", network.TEXT, ""]
        lines += [
            "| | float | 8 bits | result | drop | quantizers kept | whole runs | calls | items | s | processor s |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for framework, title in FRAMEWORKS.items():
            if framework not in options.frameworks:
                continue
            for measure, suffix in (("metric", ""), ("items", ", with items")):
                for who, python in pythons.items():
                    arguments = ["--networks", name, "--frameworks", framework, "--measure", measure]
                    more = ["--max-drop", str(options.max_drop), "--cache", str(options.cache)]
                    lines.append(row(f"{title}: {who}{suffix}", started(python, [*arguments, *more])))
                    options.output.write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
