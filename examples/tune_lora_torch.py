"""Compresses a language model to 4 bits, tunes it on text towards the float model, and writes it for OpenVINO and ONNX.

What is tuned are the ranges of groups and adapters of low rank that are added before rounding, so that nothing of them
is left when the model is stored. Tuning goes on where it was left when it is started again with the same output folder.
Run it from the repository's root: it takes SmolLM2-135M and its text from there (see benchmarks/).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import field, frozen
from torch import distributed, nn
from torch.nn import functional

import nncf
from nncf_core.pipeline import run

METHODS = ("error_propagation", "gptq", "refinement")
"""Algorithms that choose codes before tuning: what is best without it is a good place to begin."""


def knows_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; others take several times as long for it as for float32."""
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@frozen
class Settings:
    """How to tune.

    :param steps: of the optimizer.
    :param batch: windows of text in a step.
    :param adapter_rate: learning rate of adapters.
    :param range_rate: learning rate of ends of ranges, which are of the size of weights.
    :param warm_up: steps in which the rates grow; then they fall as half a cosine does.
    :param bfloat16: whether layers multiply in bfloat16; where the processor knows it, by default. What is rounded, and
        to what, stays exact.
    :param save_every: steps between checkpoints.
    """

    steps: int = 50
    batch: int = 4
    adapter_rate: float = 4e-4
    range_rate: float = 5e-5
    warm_up: int = 5
    bfloat16: bool = field(factory=knows_bfloat16)
    save_every: int = 10

    def rate(self, step: int) -> float:
        """The share of the learning rates that a step has."""
        return min(1.0, (step + 1) / self.warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))


def compressed(
    model: nn.Module, items: list[torch.Tensor], rank: int, methods: tuple[str, ...] = METHODS, **given: Any
) -> nn.Module:
    """The model in 4 bits, ready to be tuned.

    :param items: samples that codes are chosen by.
    :param rank: of the adapters.
    :param methods: algorithms that choose codes.
    :param given: further parameters of weight compression.
    """
    weights = {
        "algorithm": "weight_compression",
        "mode": "int4_asym",
        "group_size": 64,
        "subset_size": len(items),
        "compression_format": str(nncf.CompressionFormat.FQ_LORA),
        "advanced_parameters": {"lora_adapter_rank": rank},
        **given,
    }
    config = {"compression": [weights, *({"algorithm": name} for name in methods)]}
    found: nn.Module = run(config, model, dataset=nncf.Dataset(items)).model
    return found


def divergence(tuned: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of what two models say comes next, a mean over tokens.

    :param tuned: logits [batch, length, vocabulary].
    :param teacher: the same of the model that is right.
    """
    found, wanted = (logits.flatten(0, 1).float().log_softmax(-1) for logits in (tuned, teacher))
    return functional.kl_div(found, wanted, reduction="batchmean", log_target=True)


def batches(windows: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Windows [size, length] without end: all of them in a random order, which is the same in each run, then anew."""
    generator, order = torch.Generator().manual_seed(0), []
    while True:
        if len(order) < size:
            order += torch.randperm(len(windows), generator=generator).tolist()
        chosen, order = order[:size], order[size:]
        yield windows[chosen]


def tune(
    model: nn.Module, teacher: nn.Module, windows: torch.Tensor, settings: Settings, checkpoint: Path | None = None,
    tell: Callable[[int, float], None] = lambda _step, _loss: None,
) -> list[float]:  # fmt: skip
    """Tune a compressed model in place.

    :param model: what :func:`compressed` gave.
    :param teacher: the float model.
    :param windows: tokens [windows, length] of the text.
        Where several processes tune together (``torchrun``), each takes its part of a step's windows.
    :param checkpoint: a file that is written now and then, and gone on from when it is there.
    :param tell: is told each step, and its loss.
    :return: the losses of all steps.
    """
    rates = {True: settings.adapter_rate, False: settings.range_rate}
    adapted = tuple(f"{name}_" for name in nncf.torch.active_ranks(model))
    for name, parameter in model.named_parameters():
        # 8 bits lose next to nothing: tuning could but add noise to tables of which a text has few rows
        parameter.requires_grad_(parameter.requires_grad and name.startswith(adapted))
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for name, parameter in trained if ("_adapter_" in name) == adapters], "lr": rate}
        for adapters, rate in rates.items()
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.rate)
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    parts: dict[str, Any] = {"optimizer": optimizer, "schedule": schedule}
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        losses = state["losses"]
        with torch.no_grad():
            for name, parameter in trained:
                parameter.copy_(state["parameters"][name])
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for step, batch in zip(range(settings.steps), batches(windows, settings.batch), strict=False):
        if step < len(losses):
            continue
        mine = batch[rank::world]
        with torch.autocast(mine.device.type, torch.bfloat16, enabled=settings.bfloat16):
            with torch.no_grad():
                wanted = teacher(mine)
            loss = divergence(model(mine), wanted)
        optimizer.zero_grad()
        loss.backward()
        means = [loss.detach(), *(parameter.grad for _, parameter in trained if parameter.grad is not None)]
        if world > 1:
            for mean in means:
                distributed.all_reduce(mean.div_(world))
        optimizer.step()
        schedule.step()
        losses.append(means[0].item())
        tell(step, losses[-1])
        due = len(losses) % settings.save_every == 0 or len(losses) == settings.steps
        if checkpoint is not None and rank == 0 and due:
            state = {name: part.state_dict() for name, part in parts.items()}
            _save({"losses": losses, "parameters": dict(trained), **state}, checkpoint)
    return losses


def _save(state: Mapping[str, Any], path: Path) -> None:
    """Write a file whole, or not at all."""
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def perplexity(model: nn.Module, windows: torch.Tensor) -> float:
    """exp of the mean negative log-likelihood of each token but the first of windows [windows, length]."""
    total = 0.0
    with torch.no_grad():
        for window in windows:
            logits = model(window[None])[0, :-1].float()
            total += functional.cross_entropy(logits, window[1:], reduction="sum").item()
    return math.exp(total / (windows.numel() - len(windows)))


def main() -> None:
    """Compress, tune, strip, write, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/lora"), help="folder of checkpoints and models")
    parser.add_argument("--rank", type=int, default=32, help="of the adapters")
    parser.add_argument("--steps", type=int, default=Settings().steps)
    parser.add_argument("--batch", type=int, default=Settings().batch, help="windows of 256 tokens in a step")
    parser.add_argument("--windows", type=int, default=24, help="windows of 512 tokens that are measured on")
    options = parser.parse_args()
    import openvino
    from benchmarks import llama
    from benchmarks.compressing.subjects import SUBJECTS, text_windows

    options.output.mkdir(parents=True, exist_ok=True)
    subject = SUBJECTS["language"]
    subject.prepare(llama.CACHE)
    model = llama.load(llama.weights())
    windows, measured = (torch.from_numpy(tokens) for tokens in text_windows(llama.CACHE, options.windows))
    start, config = options.output / "start.pt", options.output / "config.json"
    if not start.exists():
        items = [torch.from_numpy(item["tokens"]) for item in subject.items(llama.CACHE, 32)]
        first = compressed(model, items, options.rank)
        config.write_text(json.dumps(nncf.torch.get_config(first)))
        _save(first.state_dict(), start)
    tuned = nncf.torch.load_from_config(model, json.loads(config.read_text()))
    tuned.load_state_dict(torch.load(start, weights_only=True), assign=True)
    print(f"perplexity of the float model {perplexity(model, measured):.4f}")
    before = nncf.strip(tuned, strip_format=nncf.StripFormat.IN_PLACE)
    print(f"compressed {perplexity(before, measured):.4f}", flush=True)
    del before
    begin = time.perf_counter()

    def tell(step: int, loss: float) -> None:
        print(f"step {step}: divergence {loss:.4f}, {time.perf_counter() - begin:.0f} s", flush=True)

    settings = Settings(steps=options.steps, batch=options.batch)
    tune(tuned, model, windows, settings, options.output / "tuning.pt", tell)
    small = nncf.strip(tuned, strip_format=nncf.StripFormat.DQ)
    after = nncf.strip(small, strip_format=nncf.StripFormat.IN_PLACE)
    print(f"tuned {perplexity(after, measured):.4f}")
    example = windows[:1, :8]
    openvino.save_model(openvino.convert_model(small, example_input=example), options.output / "model.xml")
    axes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=2048)},)
    nncf.torch.export_onnx(small, (example,), dynamic_shapes=axes).save(options.output / "model.onnx")
    print(f"The models are in {options.output.resolve()}")


if __name__ == "__main__":
    main()
