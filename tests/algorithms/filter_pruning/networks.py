"""Networks that read scikit-learn's digits, each with one way to hand channels on, and networks drawn at random."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import onnx
import openvino
import torch
from torch import nn
from torch.nn import functional

from tests.backends.digits import train

EXAMPLE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def block(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def normalized(model: nn.Module) -> nn.Module:
    """The model with normalization as after a training; constants of equal values may be one after a conversion."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


class Plain(nn.Module):
    """Convolutions one behind the other, with biases, and a linear layer behind a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.third = nn.Conv2d(32, 32, 3, padding=1)
        self.hidden, self.head = nn.Linear(32 * 4, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.second(functional.relu(self.first(x)))), 2)
        x = functional.max_pool2d(functional.relu(self.third(x)), 2).flatten(1)
        return self.head(functional.gelu(self.hidden(x)))


class Residual(nn.Module):
    """Sums across layers, with normalization; strides on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = block(1, 24), block(24, 24), block(24, 24)
        self.down = nn.Sequential(nn.Conv2d(24, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32))
        self.short = nn.Sequential(nn.Conv2d(24, 32, 1, 2, bias=False), nn.BatchNorm2d(32))
        self.last, self.head = block(32, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.two(functional.relu(self.one(x))))
        x = functional.relu(self.short(x) + self.last(functional.relu(self.down(x))))
        return self.head(x.mean((2, 3)))


class Separable(nn.Module):
    """Depthwise and pointwise convolutions, activations that are not zero at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand, self.deep, self.point = (
            block(1, 16),
            block(16, 48, 1),
            block(48, 48, 3, 48),
            block(48, 24, 1),
        )
        self.next_deep, self.next_point = block(24, 24, 3, 24), block(24, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.hardswish(self.stem(x))
        x = self.point(functional.relu6(self.deep(functional.silu(self.expand(x)))))
        x = functional.max_pool2d(functional.softplus(self.next_point(self.next_deep(x))), 2)
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Dense(nn.Module):
    """Concatenations of all that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two, self.three = block(1, 16), block(16, 16), block(32, 16), block(48, 16)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(x))
        for layer in (self.one, self.two, self.three):
            x = torch.cat([x, functional.relu(layer(x))], 1)
        return self.head(functional.avg_pool2d(x, 8).flatten(1))


class Excite(nn.Module):
    """Squeeze and excitation, a slope and a factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.slope = block(1, 16), block(16, 32), nn.PReLU(32)
        self.squeeze, self.excite = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.factor = nn.Parameter(torch.rand(1, 32, 1, 1) + 0.5)
        self.last, self.head = block(32, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.slope(self.conv(functional.relu(self.stem(x))))
        gate = self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        x = functional.max_pool2d(x * torch.sigmoid(gate) * self.factor, 2)
        return self.head(functional.relu(self.last(x)).amax((2, 3)))


NETWORKS = (Plain, Residual, Separable, Dense, Excite)


@cache
def trained(kind: type[nn.Module]) -> nn.Module:
    """A trained network; nobody changes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind()
        train(model, 8, 4e-3)
    return model


def converted(model: nn.Module, framework: str, example: torch.Tensor = EXAMPLE) -> Any:
    """A model in a framework; ``program``: a program of torch."""
    if framework == "torch":
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters
        if framework == "program":
            return torch.export.export(model, (example,))
        if framework == "openvino":
            return openvino.convert_model(model, example_input=example, input=list(example.shape))
        stream = io.BytesIO()
        torch.onnx.export(model, (example,), stream, dynamo=False, opset_version=17)
    return onnx.load_model_from_string(stream.getvalue())


class Literal(nn.Module):
    """Says in its code how many features a layer has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.next, self.head = (
            nn.Conv2d(1, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Linear(512, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.next(self.conv(x)).view(-1, 512))


class Blocked(nn.Module):
    """What is not understood on the way of channels."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.next, self.head = (
            nn.Conv2d(1, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Conv2d(8, 3, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.how == "cumsum":
            y = y.cumsum(1)
        elif self.how == "softmax":
            y = y.softmax(1)
        elif self.how == "norm":
            y = functional.layer_norm(y, y.shape[1:])
        elif self.how == "input":
            y = y + x.repeat(1, 8, 1, 1)
        elif self.how == "flip":
            y = y.flip(1)
        elif self.how == "product":
            y = (y.flatten(2) @ y.flatten(2).transpose(1, 2)) @ y.flatten(2)
            y = y.view(-1, 8, 8, 8)
        return self.head(self.next(y))


class Drawn(nn.Module):
    """A network of steps, each a name and a number, which say what is done with the last tensor."""

    def __init__(self, steps: list[tuple[str, int]], flat: bool) -> None:
        super().__init__()
        self.steps, self.flat = steps, flat
        self.layers = nn.ModuleList()
        channels, size = 8, 8
        self.stem = block(1, channels)
        kept = [(channels, size)]
        for kind, number in steps:
            wide = 4 * (1 + number % 4)
            layer: nn.Module = nn.Identity()
            if kind == "conv":
                layer, channels = nn.Conv2d(channels, wide, 1 + 2 * (number % 2), padding=number % 2), wide
            elif kind == "norm":
                layer, channels = block(channels, wide), wide
            elif kind == "deep":
                more = channels * (1 + number % 2)
                layer, channels = nn.Conv2d(channels, more, 3, padding=1, groups=channels), more
            elif kind == "groups":
                layer, channels = nn.Conv2d(channels, wide, 3, padding=1, groups=2), wide
            elif kind == "up":
                layer, channels = nn.ConvTranspose2d(channels, wide, 3, padding=1, groups=1 + number % 2), wide
            elif kind == "slope":
                layer = nn.PReLU(channels)
            elif kind == "residual":
                layer = nn.Conv2d(channels, channels, 3, padding=1)
            elif kind == "gate":
                both = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
                layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), both[0], nn.ReLU(), both[1], nn.Sigmoid())
            elif kind == "place":
                layer = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())
            elif kind == "concat":
                channels += kept[number % len(kept)][0]
            elif kind == "pool" and size > 2:
                size //= 2
                kept = []
            kept.append((channels, size))
            self.layers.append(layer)
        self.hidden = nn.Linear(channels * (size * size if flat else 1), 12)
        self.head = nn.Linear(12, 5)
        normalized(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(x))
        kept = [x]
        for (kind, number), layer in zip(self.steps, self.layers, strict=True):
            if kind in ("residual",):
                x = x + functional.silu(layer(x))
            elif kind in ("gate", "place"):
                x = x * layer(x)
            elif kind == "concat":
                x = torch.cat([x, kept[number % len(kept)]], 1)
            elif kind == "pool" and x.shape[-1] > 2:
                x = functional.max_pool2d(x, 2) if number % 2 else functional.avg_pool2d(x, 2)
                kept = []
            elif kind == "halves":
                one, other = x.chunk(2, 1)
                x = torch.cat([torch.sigmoid(other), one * 2], 1)
            elif kind == "shuffle":
                n, c, h, w = x.shape
                x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            elif kind == "act":
                x = (functional.hardswish, torch.tanh, functional.elu, torch.exp)[number % 4](x.clamp(-3, 3))
            else:
                x = layer(x)
            kept.append(x)
        x = x.flatten(1) if self.flat else x.mean((-2, -1))
        return self.head(functional.relu(self.hidden(x)))
