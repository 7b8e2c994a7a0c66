"""Weight compression of SmolLM2-135M: this project, nncf 3.4.0 and onnxruntime's quantizer, side by side in one run.

Each is a whole process: start, import, load, compress, save. The results go to docs/benchmarks.md. Needs what
``make benchmark`` installs, and an environment with the reference, given by --reference-python or
NNCF_REFERENCE_PYTHON, or made in the cache.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import smollm2
from benchmarks.measuring import Job, Measured, interleaved, machine, spread

OURS = """
import sys, time
from pathlib import Path
import nncf_onnx.editing, nncf_onnx.saving, nncf_weight_compression.algorithm
from nncf_core.pipeline import run
start = time.perf_counter()
section = {"algorithm": "weight_compression", "mode": sys.argv[3]}
section |= {} if len(sys.argv) < 5 else {"group_size": int(sys.argv[4])}
run({"compression": section}, Path(sys.argv[1]), output=Path(sys.argv[2]))
print(time.perf_counter() - start)
"""

REFERENCE = """
import sys, time, onnx, nncf
start = time.perf_counter()
model = onnx.load(sys.argv[1])
mode = nncf.CompressWeightsMode(sys.argv[3])
more = {} if len(sys.argv) < 5 else {"group_size": int(sys.argv[4])}
onnx.save(nncf.compress_weights(model, mode=mode, **more), sys.argv[2])
print(time.perf_counter() - start)
"""

ONNXRUNTIME = """
import sys, time, onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
start = time.perf_counter()
quantizer = MatMulNBitsQuantizer(onnx.load(sys.argv[1]), block_size=64, is_symmetric=True)
quantizer.process()
quantizer.model.save_model_to_file(sys.argv[2], False)
print(time.perf_counter() - start)
"""

LATENCY = """
import sys, time, numpy, onnxruntime
options = onnxruntime.SessionOptions(); options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = {"tokens": numpy.arange(int(sys.argv[2]))[None]}
times = []
for _ in range(12):
    start = time.perf_counter(); session.run(None, feed); times.append(time.perf_counter() - start)
print(sorted(times[2:])[5])
"""


def reference_python(given: str | None, cache: Path) -> str:
    """The interpreter of an environment with nncf 3.4.0 and onnx."""
    if given:
        return given
    folder = cache / "reference-env"
    python = folder / "bin" / "python"
    if not python.exists():
        print("Making the reference's environment (some gigabytes) ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
        for packages in (["torch==2.13.0"], ["nncf==3.4.0", "onnx", "onnxruntime", "openvino"]):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)


def jobs(model: Path, folder: Path, reference: str) -> dict[str, Job]:
    """What is measured, by name."""
    int4 = ["--mode", "int4_sym", "--group-size", "64"]

    def ours(file: str, *options: str) -> Job:
        nncf = str(Path(sys.executable).with_name("nncf"))
        path = folder / file
        # the others neither run nor hash what they write
        bare = ("--quiet", "--no-verify", "--no-lock")
        return Job([nncf, "compress-weights", str(model), *bare, "-o", str(path), *options], path)

    def script(python: str, text: str, file: str, *arguments: str) -> Job:
        return Job([python, "-c", text, str(model), str(folder / file), *arguments], folder / file)

    return {
        "nncf-core int8_asym": ours("ours_int8.onnx"),
        "nncf 3.4.0 int8_asym": script(reference, REFERENCE, "ref_int8.onnx", "int8_asym"),
        "nncf-core int4_sym g64": ours("ours_int4.onnx", *int4),
        "nncf 3.4.0 int4_sym g64": script(reference, REFERENCE, "ref_int4.onnx", "int4_sym", "64"),
        "onnxruntime int4 b64": script(sys.executable, ONNXRUNTIME, "ort_int4.onnx"),
        "nncf-core int8_asym, script": script(sys.executable, OURS, "ours_script.onnx", "int8_asym"),
        "nncf-core int4_sym g64, script": script(sys.executable, OURS, "ours_script.onnx", "int4_sym", "64"),
        "copying the file": Job(["cp", str(model), str(folder / "copy.onnx")], folder / "copy.onnx"),
    }


FILES = {
    "nncf-core int8_asym": "ours_int8.onnx",
    "nncf 3.4.0 int8_asym": "ref_int8.onnx",
    "nncf-core int4_sym g64": "ours_int4.onnx",
    "nncf 3.4.0 int4_sym g64": "ref_int4.onnx",
    "onnxruntime int4 b64": "ort_int4.onnx",
}


def output_of(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def perplexity(path: Path, windows: int) -> float:
    """Measured in a process of its own, so that memory does not add up."""
    print(f"perplexity of {path.name}", file=sys.stderr, flush=True)
    return float(output_of(sys.executable, "-m", "benchmarks.perplexity", str(path), "--windows", str(windows)))


def bits(path: Path) -> float:
    """Bits per weight, with scales and zero points."""
    nncf = str(Path(sys.executable).with_name("nncf"))
    return float(json.loads(output_of(nncf, "inspect", str(path), "--json"))["bits_per_weight"])


def time_table(results: dict[str, list[Measured]], size: int) -> list[str]:
    """Rows of the table of times and memory."""
    lines = [
        "| | whole process, s | load, compress, save, s | CPU, s | peak memory, MB | peak / file |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in results.items():
        peak = median(run.peak for run in runs)
        wall, cpu = spread([run.wall for run in runs]), spread([run.cpu for run in runs])
        inner = spread([run.inner for run in runs]) if runs[0].inner else ""
        lines.append(f"| {name} | {wall} | {inner} | {cpu} | {peak / 1e6:.0f} | {peak / size:.2f} |")
    return lines


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
        f"- int4_sym g64 against onnxruntime: {ratio('onnxruntime int4 b64', 'nncf-core int4_sym g64')}",
        f"- largest peak: {peak / size:.2f} times the file ({size / 1e6:.0f} MB)",
    ]


def quality_table(model: Path, folder: Path, windows: int) -> list[str]:
    """Rows of the table of size and perplexity."""
    base = perplexity(model, windows)
    lines = [
        "| model | file, MB | bits per weight | perplexity | excess over float |",
        "| --- | --- | --- | --- | --- |",
        f"| float32 | {model.stat().st_size / 1e6:.1f} | 32.00 | {base:.3f} | |",
    ]
    for name, file in FILES.items():
        path = folder / file
        got = perplexity(path, windows)
        size = path.stat().st_size / 1e6
        lines.append(f"| {name} | {size:.1f} | {bits(path):.2f} | {got:.3f} | {got - base:+.3f} |")
    return lines


def latency_table(model: Path, folder: Path) -> list[str]:
    """Rows of the table of latency in onnxruntime."""
    nncf = str(Path(sys.executable).with_name("nncf"))
    paths = {"float32": model}
    for label, arguments in {
        "int8_asym": [],
        "int8_asym, weight_format=matmul_nbits": ["--backend-param", "weight_format=matmul_nbits"],
        "int4_sym g64": ["--mode", "int4_sym", "--group-size", "64"],
        "int4_sym g64, weight_format=matmul_nbits": [
            "--mode", "int4_sym", "--group-size", "64", "--backend-param", "weight_format=matmul_nbits",
        ],
    }.items():  # fmt: skip
        path = folder / f"latency_{len(paths)}.onnx"
        subprocess.run([nncf, "compress-weights", str(model), "-o", str(path), "-q", *arguments], check=True)
        paths[label] = path
    lines = ["| model | 1 token, ms | 128 tokens, ms |", "| --- | --- | --- |"]
    for label, path in paths.items():
        times = [1e3 * float(output_of(sys.executable, "-c", LATENCY, str(path), n)) for n in ("1", "128")]
        lines.append(f"| {label} | {times[0]:.1f} | {times[1]:.1f} |")
    return lines


def import_table(reference: str, runs: int) -> list[str]:
    """Rows of the table of importing."""
    found = interleaved(
        {
            "this project": Job([sys.executable, "-c", "import nncf"]),
            "nncf 3.4.0": Job([reference, "-c", "import nncf"]),
        },
        runs,
    )
    lines = ["| `python -c 'import nncf'` | wall, s | peak memory, MB |", "| --- | --- | --- |"]
    for name, done in found.items():
        wall = spread([run.wall for run in done], 3)
        lines.append(f"| {name} | {wall} | {np.median([run.peak / 1e6 for run in done]):.0f} |")
    return lines


def main() -> None:
    """Measure, and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each command")
    parser.add_argument("--windows", type=int, default=24, help="windows of 512 tokens that perplexity is measured on")
    parser.add_argument("--cache", type=Path, default=smollm2.CACHE, help="folder for models")
    parser.add_argument("--reference-python", default=os.environ.get("NNCF_REFERENCE_PYTHON"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    options = parser.parse_args()
    model = smollm2.build(options.cache)
    reference = reference_python(options.reference_python, options.cache)
    size = model.stat().st_size
    results = interleaved(jobs(model, options.cache, reference), options.runs)
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("nncf-core", "nncf-onnx", "onnx", "onnxruntime", "numpy")
    )
    date = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        "# Benchmarks", "",
        "Written by `make benchmark`. Figures are medians, with minimum and maximum in brackets; the commands ran in",
        "turn, so that all saw the same machine, and each wrote a new file. Compare ratios rather than seconds.", "",
        f"{date}. {machine()}. {versions}.", "",
        f"## Compressing SmolLM2-135M in ONNX ({size / 1e6:.0f} MB, float32)", "",
        "Rows marked *script* do the same as the command above them, and time it without start and imports.", "",
        *time_table(results, size), "",
        "Ratios, pair by pair:", "",
        *ratio_lines(results, size), "",
        "## Size and perplexity", "",
        f"Perplexity in onnxruntime on the text of Python's interactive help, {options.windows} windows of 512 tokens.",
        "onnxruntime's quantizer leaves the embeddings in float32 and takes the head to 4 bits; the others take both",
        "to 8 bits. Activations are not rounded.", "",
        *quality_table(model, options.cache, options.windows), "",
        "## Latency in onnxruntime", "",
        "Median of ten forward passes with onnxruntime's defaults, which round activations for 4-bit weights.", "",
        *latency_table(model, options.cache), "",
        "## Importing", "",
        *import_table(reference, options.runs), "",
    ]  # fmt: skip
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
