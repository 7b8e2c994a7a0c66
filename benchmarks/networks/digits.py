"""A convolutional network of our own for scikit-learn's handwritten digits; normalization follows the activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import Data, Feed, Run

TITLE = "Handwritten digits (convolutions, normalization behind activations, 1.1 MB)"
METRIC = "accuracy"
TEXT = (
    "Share of 5970 noisy digits of 32 by 32 pixels (597 writings, each under ten draws of noise) that are recognised, "
    "calibrated on 300 others."
)

TRAINED, CALIBRATION, DRAWS = 1200, 300, 10
INPUT = "image"
_EPOCHS = 4


def prepare(folder: Path) -> None:
    """Train the network, and write it and its data."""
    if (folder / "digits.npz").is_file():
        return
    import torch

    images, labels = _images()
    torch.manual_seed(0)
    model = _network()
    inputs, targets = torch.from_numpy(_network_input(images[:TRAINED])), torch.from_numpy(labels[:TRAINED])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(TRAINED).split(50):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.onnx.export(
        model.eval(),
        (inputs[:2],),
        dynamo=True,
        opset_version=18,
        input_names=[INPUT],
        output_names=["scores"],
        dynamic_shapes=({0: batch},),
        verbose=False,
    )
    assert program is not None
    program.save(folder / "digits.onnx")
    np.savez(folder / "digits.npz", images=images, labels=labels)


def feeds(data: Data) -> tuple[list[Feed], Feed]:
    """One digit each."""
    items = [{INPUT: _network_input(image[None])} for image in data["images"][:CALIBRATION]]
    return items, items[0]


def score(run: Run, data: Data) -> float:
    """Share of digits that are recognised."""
    images, labels = data["images"][TRAINED:], data["labels"][TRAINED:]
    starts = range(0, len(images), 16)
    found = [run({INPUT: _network_input(images[start : start + 16])})[0].argmax(1) for start in starts]
    return float(np.mean(np.concatenate(found) == labels))


def _network_input(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.float32) / 255)[:, None]


def _images() -> tuple[np.ndarray, np.ndarray]:
    """Noisy images [n, 32, 32], uint8, and labels, in an order of their own; the test images come ``DRAWS`` times."""
    from PIL import Image
    from sklearn.datasets import load_digits

    given, random = load_digits(), np.random.default_rng(0)
    order = random.permutation(len(given.target))
    order = np.concatenate([order, *[order[TRAINED:]] * (DRAWS - 1)])
    large = [Image.fromarray((image * 12).astype(np.uint8)).resize((32, 32)) for image in given.images[order]]
    noisy = np.stack(large) + 30 + random.normal(0, 60, (len(large), 32, 32))
    return np.clip(noisy, 0, 255).astype(np.uint8), given.target[order].astype(np.int64)


def _network() -> Any:
    from torch import nn

    def layer(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, groups=groups)
        return [convolution, nn.ReLU(), nn.BatchNorm2d(outputs)]

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.inner = nn.Sequential(*layer(width, width), *layer(width, width))

        def forward(self, x: Any) -> Any:
            return x + self.inner(x)

    return nn.Sequential(
        *layer(1, 32),
        *layer(32, 64, stride=2),
        Residual(64),
        *layer(64, 96, stride=2),
        Residual(96),
        *layer(96, 96, groups=96),
        nn.Conv2d(96, 128, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
