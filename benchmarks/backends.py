"""Weight compression of SmolLM2-135M in OpenVINO and PyTorch: this project and nncf 3.4.0, side by side in one run.

Writes docs/benchmarks_backends.md. Needs what benchmarks.weight_compression needs, and openvino and torch.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks import llama
from benchmarks.measuring import Job, Measured, interleaved, machine, spread
from benchmarks.weight_compression import reference_python, time_table

SMALL_IR = """
import sys, time, tempfile, numpy, openvino, nncf
from pathlib import Path
from openvino import opset15
x = opset15.parameter([1, 64], numpy.float32)
weight = opset15.constant(numpy.ones((64, 64), numpy.float32))
small = openvino.Model([opset15.matmul(x, weight, False, True)], [x])
folder = Path(tempfile.mkdtemp())
openvino.save_model(small, folder / "small.xml")
"""

OPENVINO_REFERENCE = (
    SMALL_IR
    + """
nncf.compress_weights(openvino.Core().read_model(folder / "small.xml"))
start = time.perf_counter()
model = openvino.Core().read_model(sys.argv[1])
more = {} if len(sys.argv) < 5 else {"group_size": int(sys.argv[4])}
model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode(sys.argv[3]), **more)
openvino.save_model(model, sys.argv[2], compress_to_fp16=False)
print(time.perf_counter() - start)
"""
)

OPENVINO = (
    SMALL_IR
    + """
import nncf_core.pipeline
nncf_core.pipeline.run({"compression": {"algorithm": "weight_compression"}}, folder / "small.xml",
                       output=folder / "smaller.xml")
start = time.perf_counter()
section = {"algorithm": "weight_compression", "mode": sys.argv[3]}
section |= {} if len(sys.argv) < 5 else {"group_size": int(sys.argv[4])}
nncf_core.pipeline.run({"compression": section}, Path(sys.argv[1]), output=Path(sys.argv[2]))
print(time.perf_counter() - start)
"""
)

LOADED = """
import sys, time
from pathlib import Path
import torch, nncf
from benchmarks.llama import load
class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(64, 64)
    def forward(self, x):
        return self.linear(x)
nncf.compress_weights(Small().eval(), dataset=nncf.Dataset([torch.zeros(1, 64)]))  # imports what comes late
model = load(Path(sys.argv[1]))
"""

TORCH = (
    LOADED
    + """
start = time.perf_counter()
more = {} if len(sys.argv) < 4 else {"group_size": int(sys.argv[3])}
dataset = nncf.Dataset([torch.arange(8)[None]])
nncf.compress_weights(model, mode=nncf.CompressWeightsMode(sys.argv[2]), dataset=dataset, **more)
print(time.perf_counter() - start)
"""
)

RUN = (
    LOADED
    + """
with torch.no_grad():
    model(torch.arange(8)[None])
"""
)

BASE = "PyTorch, importing, mapping the model, running it once"

SETTINGS = {"int8_asym": ("int8_asym",), "int4_sym g64": ("int4_sym", "64")}


def jobs(folder: Path, reference: str) -> dict[str, Job]:
    """What is measured, by name."""
    ir, weights = llama.openvino_ir(folder), llama.weights(folder)
    result = {BASE: Job([sys.executable, "-c", RUN, str(weights)])}
    for name, arguments in SETTINGS.items():
        group = ("--group-size", arguments[1]) if len(arguments) > 1 else ()
        nncf = str(Path(sys.executable).with_name("nncf"))
        output = folder / "ours.xml"
        # the others neither run nor hash what they write
        bare = ("-q", "--no-verify", "--no-lock")
        command = [nncf, "compress-weights", str(ir), *bare, "-o", str(output), "--mode", arguments[0], *group]
        result[f"OpenVINO, nncf-core {name}"] = Job(command, output)
        script = [sys.executable, "-c", OPENVINO, str(ir), str(output), *arguments]
        result[f"OpenVINO, nncf-core {name}, script"] = Job(script, output)
        output = folder / "reference.xml"
        script = [reference, "-c", OPENVINO_REFERENCE, str(ir), str(output), *arguments]
        result[f"OpenVINO, nncf 3.4.0 {name}"] = Job(script, output)
        result[f"PyTorch, nncf-core {name}"] = Job([sys.executable, "-c", TORCH, str(weights), *arguments])
        result[f"PyTorch, nncf 3.4.0 {name}"] = Job([reference, "-c", TORCH, str(weights), *arguments])
    return result


def ratio_lines(results: dict[str, list[Measured]], size: int) -> list[str]:
    """The claims, as ratios of this run."""
    lines = []
    for name in SETTINGS:
        for framework in ("OpenVINO", "PyTorch"):
            slow, fast = results[f"{framework}, nncf 3.4.0 {name}"], results[f"{framework}, nncf-core {name}"]
            inner = results.get(f"{framework}, nncf-core {name}, script", fast)
            whole = spread([a.wall / b.wall for a, b in zip(slow, fast, strict=True)], 1)
            alone = spread([a.inner / b.inner for a, b in zip(slow, inner, strict=True)], 1)
            base = min(run.peak for run in results[BASE]) - size if framework == "PyTorch" else 0
            peak = (max(run.peak for run in fast) - base) / size
            lines.append(
                f"- {framework} {name}: {whole} times faster as a whole process, {alone} times without start and "
                f"imports; peak {peak:.2f} times the model"
            )
    return lines


def main() -> None:
    """Measure, and write docs/benchmarks_backends.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each command")
    parser.add_argument("--cache", type=Path, default=llama.CACHE, help="folder for models")
    parser.add_argument("--reference-python", default=os.environ.get("NNCF_REFERENCE_PYTHON"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks_backends.md"))
    options = parser.parse_args()
    reference = reference_python(options.reference_python, options.cache)
    results = interleaved(jobs(options.cache, reference), options.runs)
    size = llama.weights(options.cache).stat().st_size
    versions = ", ".join(f"{name} {version(name)}" for name in ("nncf-core", "openvino", "torch", "numpy"))
    date = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        "# Benchmarks of the OpenVINO and PyTorch backends", "",
        "Written by `python -m benchmarks.backends`. Medians, with minimum and maximum in brackets; the commands ran",
        "in turn. The head of this model shares its weight with the embedding. In OpenVINO a file is compressed to a",
        "file, in PyTorch a module in memory.", "",
        f"{date}. {machine()}. {versions}.", "",
        f"## Compressing SmolLM2-135M ({size / 1e6:.0f} MB, float32)", "",
        *time_table(results, size), "",
        "Ratios, pair by pair:", "",
        *ratio_lines(results, size), "",
        "In PyTorch the model stays in memory, and is part of the peak; what importing PyTorch and running the model",
        "once take beyond it is not. Where imports are left out, both compress a small model first, so that nothing is",
        "imported while the clock runs.", "",
    ]  # fmt: skip
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
