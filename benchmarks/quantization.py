"""Post-training quantization at default settings: this project and nncf 3.4.0, in turn in one run.

Writes docs/benchmarks_quantization.md. Needs what ``make benchmark`` installs, and scipy in the reference's
environment, which nncf brings.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine
from benchmarks.networks import NAMES
from benchmarks.smollm2 import CACHE
from benchmarks.weight_compression import reference_python

FRAMEWORKS = {"onnx": "ONNX, onnxruntime", "openvino": "OpenVINO"}
OURS, REFERENCE = "this project", "nncf 3.4.0"


def measured(python: str, network: str, folder: Path, framework: str) -> dict[str, float]:
    """Figures of one network in one environment.

    :raises SystemExit: when it fails; its output is shown.
    """
    print(f"{network}, {framework}: {python}", file=sys.stderr, flush=True)
    command = [python, "-m", "benchmarks.networks", network, str(folder), "--framework", framework]
    own = python == sys.executable
    # another environment has its own packages, and not those that are added to this one; and as users have it, modules
    # are compiled once, and not in every run
    unwanted = {"PYTHONDONTWRITEBYTECODE", *(() if own else ("PYTHONPATH",))}
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def best(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The least of each figure: scores are the same each time, and other work only adds to the rest."""
    return {key: min(run[key] for run in runs) for key in runs[0]}


def rows(network: str, folder: Path, pythons: dict[str, str], runs: int) -> list[str]:
    """Figures of one network in all frameworks, as lines of Markdown."""
    metric = importlib.import_module(f"benchmarks.networks.{network}").METRIC
    result = [
        f"| | {metric}, float | 8 bits | lost | latency, float, ms | 8 bits, ms | times faster "
        "| quantizing, s | peak, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for framework, title in FRAMEWORKS.items():
        found: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
        for _ in range(runs):
            for name, python in pythons.items():
                found[name].append(measured(python, network, folder, framework))
        for name in pythons:
            figures = best(found[name])
            score, lost = figures["score"], figures["score"] - figures["score_8"]
            float_ms, int_ms = figures["latency"], figures["latency_8"]
            result.append(
                f"| {title}: {name} | {score:.3f} | {figures['score_8']:.3f} | {lost:.3f} | {float_ms:.2f} "
                f"| {int_ms:.2f} | {float_ms / int_ms:.2f} | {figures['seconds']:.1f} | {figures['peak'] / 1e6:.0f} |"
            )
    return result


def main() -> None:
    """Measure, and write docs/benchmarks_quantization.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of environments and models")
    parser.add_argument("--reference-python", default=os.environ.get("NNCF_REFERENCE_PYTHON"))
    parser.add_argument("--networks", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--runs", type=int, default=2, help="of each measurement, in turn")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks_quantization.md"))
    options = parser.parse_args()
    pythons = {OURS: sys.executable, REFERENCE: reference_python(options.reference_python, options.cache)}
    folder = options.cache / "networks"
    folder.mkdir(parents=True, exist_ok=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("nncf-core", "onnxruntime", "openvino", "numpy"))
    date = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        "# Benchmarks of post-training quantization", "",
        "Written by `python -m benchmarks.quantization`, everything at default settings. Both projects take turns; of",
        f"times and memory the least of {options.runs} runs is given. Quantizing and latency are processor time, of",
        "all threads: other work on the machine does not count. Latency is that of one input on one thread, the least",
        "of at least forty runs of each model in turn; float is the model that was given.", "",
        f"{date}. {machine()}. {versions}.",
    ]  # fmt: skip
    for name in options.networks:
        network: Any = importlib.import_module(f"benchmarks.networks.{name}")
        network.prepare(folder)
        lines += ["", f"## {network.TITLE}", "", network.TEXT, "", *rows(name, folder, pythons, options.runs)]
    options.output.write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
