"""Weight compression of SmolLM2-135M as an OpenVINO IR file: this project and nncf 3.4.0, side by side in one run.

Each is a whole process: start, import, load, compress, save. The results go to docs/benchmarks_openvino.md. Needs what
``benchmarks.weight_compression`` needs; the reference's environment must have openvino.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks import smollm2
from benchmarks.measuring import Measured, interleaved, machine, spread
from benchmarks.weight_compression import output_of, reference_python, time_table

CONVERT = """
import sys, openvino
openvino.save_model(openvino.convert_model(sys.argv[1]), sys.argv[2], compress_to_fp16=False)
"""

OURS = """
import sys, time
from pathlib import Path
import openvino
import nncf_openvino.editing, nncf_openvino.saving, nncf_weight_compression.algorithm
from nncf_core.pipeline import run
start = time.perf_counter()
section = {"algorithm": "weight_compression", "mode": sys.argv[3]}
section |= {} if len(sys.argv) < 5 else {"group_size": int(sys.argv[4])}
run({"compression": section}, Path(sys.argv[1]), output=Path(sys.argv[2]))
print(time.perf_counter() - start)
"""

REFERENCE = """
import sys, time, openvino, nncf
start = time.perf_counter()
model = openvino.Core().read_model(sys.argv[1])
mode = nncf.CompressWeightsMode(sys.argv[3])
more = {} if len(sys.argv) < 5 else {"group_size": int(sys.argv[4])}
openvino.save_model(nncf.compress_weights(model, mode=mode, **more), sys.argv[2], compress_to_fp16=False)
print(time.perf_counter() - start)
"""

LATENCY = """
import sys, time, numpy, openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU")
feed = [numpy.arange(int(sys.argv[2]))[None]]
times = []
for _ in range(12):
    start = time.perf_counter(); model(feed); times.append(time.perf_counter() - start)
print(sorted(times[2:])[5])
"""


def converted(model: Path, cache: Path) -> Path:
    """The model as an IR file."""
    path = cache / "smollm2-135m.xml"
    if not path.exists():
        subprocess.run([sys.executable, "-c", CONVERT, str(model), str(path)], check=True)
    return path


def commands(model: Path, folder: Path, reference: str) -> dict[str, Sequence[str]]:
    """What is measured, by name."""
    ours = [str(Path(sys.executable).with_name("nncf")), "compress-weights", str(model), "--quiet", "-o"]
    script = [sys.executable, "-c", OURS, str(model), str(folder / "ours_script.xml")]
    other = [reference, "-c", REFERENCE, str(model)]
    int4 = ["--mode", "int4_sym", "--group-size", "64"]
    return {
        "nncf-core int8_asym": [*ours, str(folder / "ours_int8.xml")],
        "nncf 3.4.0 int8_asym": [*other, str(folder / "ref_int8.xml"), "int8_asym"],
        "nncf-core int4_sym g64": [*ours, str(folder / "ours_int4.xml"), *int4],
        "nncf 3.4.0 int4_sym g64": [*other, str(folder / "ref_int4.xml"), "int4_sym", "64"],
        "nncf-core int8_asym, script": [*script, "int8_asym"],
        "nncf-core int4_sym g64, script": [*script, "int4_sym", "64"],
        "copying the file": ["cp", str(model.with_suffix(".bin")), str(folder / "copy.bin")],
    }


def ratio_lines(results: dict[str, list[Measured]], size: int) -> list[str]:
    """The claims, as ratios of this run."""

    def ratio(slow: str, fast: str) -> str:
        whole = [a.wall / b.wall for a, b in zip(results[slow], results[fast], strict=True)]
        inner = [a.inner / b.inner for a, b in zip(results[slow], results[f"{fast}, script"], strict=True)]
        return f"{spread(whole, 1)} times faster as a whole process, {spread(inner, 1)} times without start and imports"

    peak = max(run.peak for name, runs in results.items() if name.startswith("nncf-core") for run in runs)
    return [
        f"- int8_asym against nncf 3.4.0: {ratio('nncf 3.4.0 int8_asym', 'nncf-core int8_asym')}",
        f"- int4_sym g64 against nncf 3.4.0: {ratio('nncf 3.4.0 int4_sym g64', 'nncf-core int4_sym g64')}",
        f"- largest peak: {peak / size:.2f} times the file ({size / 1e6:.0f} MB)",
    ]


def latency_table(model: Path, folder: Path) -> list[str]:
    """Rows of the table of sizes, and of latency in OpenVINO."""
    files = {
        "float32": model,
        "nncf-core int8_asym": folder / "ours_int8.xml",
        "nncf 3.4.0 int8_asym": folder / "ref_int8.xml",
        "nncf-core int4_sym g64": folder / "ours_int4.xml",
        "nncf 3.4.0 int4_sym g64": folder / "ref_int4.xml",
    }
    lines = ["| model | .bin, MB | 1 token, ms | 128 tokens, ms |", "| --- | --- | --- | --- |"]
    for label, path in files.items():
        times = [1e3 * float(output_of(sys.executable, "-c", LATENCY, str(path), n)) for n in ("1", "128")]
        size = path.with_suffix(".bin").stat().st_size / 1e6
        lines.append(f"| {label} | {size:.1f} | {times[0]:.1f} | {times[1]:.1f} |")
    return lines


def main() -> None:
    """Measure, and write docs/benchmarks_openvino.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each command")
    parser.add_argument("--cache", type=Path, default=smollm2.CACHE, help="folder for models")
    parser.add_argument("--reference-python", default=os.environ.get("NNCF_REFERENCE_PYTHON"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks_openvino.md"))
    options = parser.parse_args()
    model = converted(smollm2.build(options.cache), options.cache)
    reference = reference_python(options.reference_python, options.cache)
    size = model.with_suffix(".bin").stat().st_size
    results = interleaved(commands(model, options.cache, reference), options.runs)
    versions = ", ".join(f"{name} {version(name)}" for name in ("nncf-core", "nncf-openvino", "openvino", "numpy"))
    date = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        "# Benchmarks of the OpenVINO backend", "",
        "Written by `make benchmark`. Figures are medians, with minimum and maximum in brackets; the commands ran in",
        "turn, so that all saw the same machine. Compare the ratios rather than the seconds.", "",
        f"{date}. {machine()}. {versions}.", "",
        f"## Compressing SmolLM2-135M as an IR file ({size / 1e6:.0f} MB, float32)", "",
        "Rows marked *script* do the same as the command above them, and time it without start and imports.", "",
        *time_table(results, size), "",
        "Ratios, pair by pair:", "",
        *ratio_lines(results, size), "",
        "## Size, and latency on the CPU", "",
        "Median of ten forward passes with OpenVINO's defaults, which round activations of compressed layers.", "",
        *latency_table(model, options.cache), "",
    ]  # fmt: skip
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
