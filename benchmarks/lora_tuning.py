"""Tuning of a 4-bit SmolLM2-135M with adapters that rounding takes in (examples/tune_lora_torch.py), and what it gains.

Compresses, tunes, strips and converts; the perplexities of the float model, of the compressed one and of the tuned one
are measured by the program that measures docs/benchmarks_data_aware.md. Everything is kept in the cache: started again,
it goes on where it was left. ``torchrun --nproc-per-node 2 -m benchmarks.lora_tuning --threads 1`` lets two processes
tune together. Writes docs/benchmarks_lora_tuning.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from examples.tune_lora_torch import METHODS, Settings, compressed, tune
from torch import distributed, nn

import nncf
from benchmarks import llama
from benchmarks.compressing.subjects import SUBJECTS, text_windows
from benchmarks.measuring import machine
from benchmarks.weight_compression import output_of

LANGUAGE = SUBJECTS["language"]


def start(model: nn.Module, folder: Path, rank: int) -> tuple[nn.Module, float]:
    """The compressed model before tuning, made when it is not there yet, and the seconds that it took."""
    weights, config = folder / "start.pt", folder / "start.json"
    if not config.exists():
        items = [torch.from_numpy(item["tokens"]) for item in LANGUAGE.items(llama.CACHE, 32)]
        begin = time.perf_counter()
        first = compressed(model, items, rank)
        seconds = time.perf_counter() - begin
        torch.save(first.state_dict(), weights)
        config.write_text(json.dumps({"seconds": seconds, "config": nncf.torch.get_config(first)}))
    known = json.loads(config.read_text())
    made = nncf.torch.load_from_config(model, known["config"])
    made.load_state_dict(torch.load(weights, weights_only=True), assign=True)
    return made, known["seconds"]


def tuned(model: nn.Module, teacher: nn.Module, folder: Path, settings: Settings) -> list[dict[str, float]]:
    """Tune; of each step the loss, and the seconds by the clock and of all cores."""
    windows, _ = text_windows(llama.CACHE, 1)
    log = folder / "steps.jsonl"
    last = [time.perf_counter(), time.process_time()]

    def tell(step: int, loss: float) -> None:
        now = [time.perf_counter(), time.process_time()]
        line = {"step": step, "loss": loss, "wall": now[0] - last[0], "cpu": now[1] - last[1]}
        last[:] = now
        if _rank():
            return
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, file=sys.stderr, flush=True)

    tune(model, teacher, torch.from_numpy(windows), settings, folder / "tuning.pt", tell)
    # steps behind the last checkpoint were done again when a run was taken up
    return list({line["step"]: line for line in map(json.loads, log.read_text().splitlines())}.values())


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def score(model: nn.Module, path: Path, windows: int) -> float:
    """Perplexity of a stripped model in OpenVINO."""
    import openvino

    openvino.save_model(openvino.convert_model(model, example_input=torch.arange(8)[None]), path)
    return measured(path, windows)


def measured(path: Path, windows: int) -> float:
    """Perplexity of an OpenVINO IR."""
    command = [sys.executable, "-m", "benchmarks.compressing.scoring", "language", str(path)]
    found = output_of(*command, "--folder", str(llama.CACHE), "--windows", str(windows))
    return LANGUAGE.score(json.loads(found)["parts"])


def main() -> None:
    """Compress, tune, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--steps", type=int, default=Settings().steps)
    parser.add_argument("--batch", type=int, default=Settings().batch, help="windows of 256 tokens in a step")
    parser.add_argument("--adapter-rate", type=float, default=Settings().adapter_rate)
    parser.add_argument("--range-rate", type=float, default=Settings().range_rate)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--windows", type=int, default=24, help="windows of 512 tokens that perplexity is measured on")
    parser.add_argument("--note", default="", help="to put beside the figures, for instance: under load")
    parser.add_argument("--folder", type=Path, default=llama.CACHE / "lora_tuning", help="of what is kept")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks_lora_tuning.md"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    path = LANGUAGE.prepare(llama.CACHE)
    teacher = llama.load(llama.weights())
    if "RANK" in os.environ:
        distributed.init_process_group("gloo", timeout=datetime.timedelta(hours=2))
    processes = distributed.get_world_size() if distributed.is_initialized() else 1
    if _rank():
        distributed.barrier()
    model, seconds = start(teacher, options.folder, options.rank)
    if processes > 1 and _rank() == 0:
        distributed.barrier()
    settings = Settings(options.steps, options.batch, options.adapter_rate, options.range_rate)
    steps = tuned(model, teacher, options.folder, settings)
    if _rank():
        return
    base = measured(path, options.windows)
    before = nncf.strip(start(teacher, options.folder, options.rank)[0], strip_format=nncf.StripFormat.DQ)
    scores = {"compressed": score(before, options.folder / "compressed.xml", options.windows)}
    after = nncf.strip(model, strip_format=nncf.StripFormat.DQ)
    scores["tuned"] = score(after, options.folder / "tuned.xml", options.windows)
    wall, cpu = (sum(step[name] for step in steps) for name in ("wall", "cpu"))
    cpu *= processes
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    size = (options.folder / "tuned.bin").stat().st_size / 1e6
    versions = ", ".join(f"{name} {version(name)}" for name in ("nncf-core", "openvino", "torch"))
    date, mark = datetime.datetime.now(tz=datetime.UTC).date(), f" ({options.note})" if options.note else ""
    first, last, precision = scores["compressed"], scores["tuned"], "bfloat16" if settings.bfloat16 else "float32"
    lines = [
        "# Benchmark of tuning with absorbable adapters", "",
        "Written by `python -m benchmarks.lora_tuning`. Setting, text and measurement are those of",
        "[benchmarks_data_aware.md](benchmarks_data_aware.md): SmolLM2-135M, INT4_ASYM in groups of 64, embeddings and",
        f"head INT8_ASYM, perplexity on {options.windows} windows of 512 tokens in OpenVINO. The text that calibrates",
        "is the text that is tuned on; what is measured on has no paragraph of it.", "",
        f"{date}. {machine()}.",
        f"{versions}. Processes that tune: {processes}, threads of each: {options.threads}{mark}.", "",
        "| | perplexity | excess over float | seconds | CPU seconds |",
        "| --- | --- | --- | --- | --- |",
        f"| float32 | {base:.4f} | | | |",
        f"| compressed: {', '.join(METHODS)} | {first:.4f} | {first - base:+.4f} | {seconds:.0f} | |",
        f"| tuned | {last:.4f} | {last - base:+.4f} | {wall:.0f} | {cpu:.0f} |", "",
        f"{len(steps)} steps of {settings.batch} windows of 256 tokens, Adam; adapters of rank {options.rank} are",
        f"moved at {settings.adapter_rate:g}, ends of ranges at {settings.range_rate:g}, both falling as half a cosine",
        f"does; {trained / 1e6:.1f} million numbers are trained. Layers multiply in {precision} while tuning.",
        f"The tuned weights take {size:.1f} MB, as before.", "",
        "| steps | divergence from the float model, mean |",
        "| --- | --- |",
    ]  # fmt: skip
    part = max(len(steps) // 6, 1)
    for index in range(0, len(steps), part):
        losses = [step["loss"] for step in steps[index : index + part]]
        lines.append(f"| {index + 1} to {index + len(losses)} | {sum(losses) / len(losses):.4f} |")
    options.output.write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
