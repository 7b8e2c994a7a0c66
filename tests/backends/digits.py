"""Networks that read scikit-learn's handwritten digits, in PyTorch, and the same in the other frameworks."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import openvino
import torch
from models.make_digits_transformer import DigitsTransformer
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

# small tensors are faster without threads
torch.set_num_threads(1)


class Convolutions(nn.Module):
    """Normalization behind most convolutions, a residual sum, a depthwise convolution, one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.first, self.first_norm = nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.depthwise, self.depthwise_norm = nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.BatchNorm2d(24)
        self.point = nn.Conv2d(24, 16, 1)
        self.twice = nn.Conv2d(16, 16, 3, padding=1)
        self.hidden = nn.Linear(64, 40)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Parameter(torch.empty(40, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.stem_norm(self.stem(x))), 2)
        y = functional.relu(self.first_norm(self.first(x)))
        y = functional.relu6(self.depthwise_norm(self.depthwise(y)))
        x = functional.relu(torch.add(self.point(y), x))
        x = functional.relu(self.twice(functional.relu_(self.twice(x))))
        x = self.hidden(functional.max_pool2d(x, 2).flatten(1))
        return functional.gelu(self.drop(x)) @ self.head


@cache
def images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training and test images ``[n, 1, 8, 8]`` from 0 to 1, and labels."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = torch.from_numpy(data.images[order].astype(np.float32) / 16)[:, None]
    y = torch.from_numpy(data.target[order].astype(np.int64))
    return x[:1300], y[:1300], x[1300:], y[1300:]


def train(model: nn.Module, epochs: int, rate: float) -> None:
    """A few passes over the training images."""
    x, y, _, _ = images()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    model.eval()


def accuracy(model: Any) -> float:
    """On the test images."""
    _, _, x, y = images()
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


@cache
def convolutions() -> nn.Module:
    """The trained network; nobody changes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Convolutions()
        nn.init.normal_(model.head, std=0.2)
        train(model, 6, 3e-3)
    return model


@cache
def transformer() -> nn.Module:
    """The demo's transformer, with weights as they are before training, but for normalization that does nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DigitsTransformer()
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias, std=0.2)
    return model.eval()


def converted(model: nn.Module, example: torch.Tensor, framework: str) -> Any:
    """A model in another framework, by its own converter."""
    if framework == "torch":
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters
        if framework == "openvino":
            return openvino.convert_model(model, example_input=example)
        stream = io.BytesIO()
        torch.onnx.export(model, (example,), dynamo=True, opset_version=21, verbose=False).save(stream)
    return onnx.load_model_from_string(stream.getvalue())
