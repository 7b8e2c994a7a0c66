"""The digits network with a layer that 8 bits destroy: it gives its input, by way of its exponential."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import Data, Feed, Run, digits

TITLE = "Handwritten digits with a fragile layer"
METRIC = "accuracy"
TEXT = (
    "Share of 400 noisy digits that are recognised. In the network stands `log(conv(exp(x)))` with the identity as "
    "convolution: most elements of its input are below a step of 8 bits."
)

CALIBRATION, TEST = 300, 400
INPUT = digits.INPUT


def prepare(folder: Path, name: str = "fragile", places: tuple[int, ...] = (9,)) -> None:
    """Train the network, put the layers into it, and write it and its data.

    :param places: indices in the network of what a fragile layer stands behind.
    """
    if (folder / f"{name}.npz").is_file():
        return
    import torch

    images, labels = digits._images()
    torch.manual_seed(0)
    model = digits._network()
    inputs, targets = (
        torch.from_numpy(digits._network_input(images[: digits.TRAINED])),
        torch.from_numpy(labels[: digits.TRAINED]),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(digits._EPOCHS):
        for chosen in torch.randperm(digits.TRAINED).split(50):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
    model = _with_fragile_layers(model.eval(), inputs[:2], places)
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.onnx.export(
        model,
        (inputs[:2],),
        dynamo=True,
        opset_version=18,
        input_names=[INPUT],
        output_names=["scores"],
        dynamic_shapes=({0: batch},),
        verbose=False,
    )
    assert program is not None
    program.save(folder / f"{name}.onnx")
    np.savez(folder / f"{name}.npz", images=images, labels=labels)


def feeds(data: Data) -> tuple[list[Feed], Feed]:
    """One digit each."""
    return digits.feeds(data)


def items(data: Data) -> list[tuple[Feed, int]]:
    """Inputs and labels to validate on."""
    chosen = slice(digits.TRAINED, digits.TRAINED + TEST)
    return [
        ({INPUT: digits._network_input(image[None])}, int(label))
        for image, label in zip(data["images"][chosen], data["labels"][chosen], strict=True)
    ]


def hit(run: Run, item: tuple[Feed, int], data: Data) -> bool:
    """Whether a digit is recognised."""
    return bool(run(item[0])[0].argmax() == item[1])


def _with_fragile_layers(model: Any, example: Any, places: tuple[int, ...]) -> Any:
    from torch import nn

    class Fragile(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.same = nn.Conv2d(width, width, 3, padding=1, bias=False)
            nn.init.dirac_(self.same.weight)

        def forward(self, x: Any) -> Any:
            import torch

            return torch.log(self.same(torch.exp(2 * x)) + 1e-6) / 2

    layers: list[nn.Module] = []
    for index, layer in enumerate(model):
        layers.append(layer)
        example = layer(example)
        if index in places:
            layers.append(Fragile(example.shape[1]))
    return nn.Sequential(*layers).eval()
