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
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine
from benchmarks.networks.controlled import SUBSET
from benchmarks.quantization import FRAMEWORKS, OURS, REFERENCE
from benchmarks.smollm2 import CACHE
from benchmarks.weight_compression import reference_python

NAMES = ("fragile", "fragile_four", "recognition")


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
    command = [python, "-m", "benchmarks.networks.controlled", *arguments]
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
    parser.add_argument("--items", type=int, default=400, help="number of items to validate on")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks_accuracy_control.md"))
    options = parser.parse_args()
    folder = options.cache / "networks"
    networks: list[Any] = [importlib.import_module(f"benchmarks.networks.{name}") for name in options.networks]
    folder.mkdir(parents=True, exist_ok=True)
    pythons = {OURS: sys.executable, REFERENCE: reference_python(options.reference_python, options.cache)}
    versions = ", ".join(f"{name} {version(name)}" for name in ("nncf-core", "onnxruntime", "openvino", "numpy"))
    date = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        "# Benchmarks of accuracy control", "",
        f"Written by `python -m benchmarks.accuracy_control`: `max_drop={options.max_drop}`, groups are ranked on",
        f"{SUBSET} items, all else at default settings. *Whole* runs of the validation function have all items;",
        "*calls* count those with some of them, too, and *items* how many were looked at in all calls together. The",
        "function gives a metric, or a metric and hits and misses (*with items*). Times are those of a machine with",
        "other work.",
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
            for extra, suffix in ([], ""), (["--per-item"], ", with items"):
                for who, python in pythons.items():
                    arguments = [name, str(folder), "--framework", framework, "--max-drop", str(options.max_drop)]
                    arguments += ["--items", str(options.items)]
                    lines.append(row(f"{title}: {who}{suffix}", started(python, [*arguments, *extra])))
                    options.output.write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
