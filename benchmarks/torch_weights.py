"""Time and memory of compressing a PyTorch language model of SmolLM2-135M's shapes, with random weights.

Each row is a process of its own, and the median of several; times leave out start, imports of torch, and making the
model. Prints a table for docs/torch.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn

import nncf

ROWS = (("int8_asym", "float32"), ("int4_sym", "float32"), ("int4_asym", "float32"), ("int4_sym", "bfloat16"))
WIDTH, HIDDEN, LAYERS, VOCABULARY, KEYS = 576, 1536, 30, 49152, 192


def language_model(dtype: torch.dtype) -> nn.Module:
    """The linear layers of 30 blocks, and a table that is embedding and head."""
    shapes = [(WIDTH, WIDTH), (WIDTH, KEYS), (WIDTH, KEYS), (WIDTH, WIDTH)]
    shapes += [(WIDTH, HIDDEN), (WIDTH, HIDDEN), (HIDDEN, WIDTH)]
    blocks = [nn.ModuleList(nn.Linear(*shape, bias=False) for shape in shapes) for _ in range(LAYERS)]
    model = nn.ModuleDict({"embedding": nn.Embedding(VOCABULARY, WIDTH), "layers": nn.ModuleList(blocks)})
    model["head"] = nn.Linear(WIDTH, VOCABULARY, bias=False)
    model["head"].weight = model["embedding"].weight
    return model.to(dtype).eval()


def status(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def measure(mode: str, dtype: str) -> dict[str, float]:
    """Seconds, and the peak of memory as a multiple of the model, which stays in memory."""
    model = language_model(getattr(torch, dtype))
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    given = {} if mode.startswith("int8") else {"group_size": 64}
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.perf_counter()
    small = nncf.compress_weights(model, nncf.CompressWeightsMode(mode), **given)
    seconds = time.perf_counter() - start
    stored = sum(buffer.numel() * buffer.element_size() for buffer in small.buffers())
    return {"s": seconds, "peak": (status("VmHWM") - before + size) / size, "size": size / 1e6, "stored": stored / 1e6}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(*arguments.row)))
        return
    print("| | model, MB | compressed, MB | s | peak / model |\n| --- | --- | --- | --- | --- |")
    for row in ROWS:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.torch_weights", "--row", *row]
        runs = [json.loads(subprocess.check_output(command)) for _ in range(arguments.runs)]
        times = [run["s"] for run in runs]
        last = runs[-1]
        print(
            f"| {row[0]}, {row[1]} | {last['size']:.0f} | {last['stored']:.0f} | "
            f"{median(times):.2f} ({min(times):.2f}–{max(times):.2f}) | {max(run['peak'] for run in runs):.2f} |"
        )


if __name__ == "__main__":
    main()
