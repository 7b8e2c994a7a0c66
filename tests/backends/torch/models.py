"""Small PyTorch models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def seeded(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model with weights that depend on nothing but their order, in evaluation mode."""
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=seed) * 0.2)
    return model.eval().to(dtype)


def sequential(dtype: torch.dtype = torch.float32) -> nn.Module:
    layers = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 32, bias=False)]
    return seeded(nn.Sequential(*layers), dtype)


class Tied(nn.Module):
    """A table that is embedding and head; one layer runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(96, 64)
        self.layer = nn.Linear(64, 64)
        self.head = nn.Linear(64, 96, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.layer(torch.relu(self.layer(self.embedding(tokens))))))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.norm = nn.BatchNorm2d(32)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.grouped = nn.ConvTranspose2d(16, 8, 3, groups=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.grouped(self.up(torch.relu(self.norm(self.depthwise(self.conv(x))))))


class Functional(nn.Module):
    """Weights that no module's class tells of, tensors in lists, dicts and keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(64, 64))
        self.experts = nn.Parameter(torch.empty(3, 64, 32))
        self.back = nn.Parameter(torch.empty(3, 64, 32))
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.listed = nn.ParameterList([nn.Parameter(torch.empty(64, 64))])

    def forward(self, x: torch.Tensor, extra: Mapping[str, Any], scale: torch.Tensor | None = None) -> dict[str, Any]:
        x = functional.linear(x + extra["shift"], self.w)
        x = x if scale is None else x * scale
        y = torch.einsum("bth,ehd->ebtd", x, self.experts)
        y = torch.matmul(y, self.back.transpose(1, 2)[:, None]).sum(0)
        for index in range(3):
            y = y + functional.linear(functional.linear(x, self.experts[index].t()), self.back[index])
        z = self.attention(y, y, y, need_weights=False)[0] @ self.listed[0]
        return {"out": z, "hidden": [y, extra["pair"][0] + extra["pair"][1]]}


def functional_input(seed: int = 0) -> dict[str, Any]:
    one = normal(2, 5, 64, seed=seed)
    return {"x": one, "extra": {"shift": one * 0.1, "pair": [one, one]}, "scale": torch.tensor(0.5)}


class Branching(nn.Module):
    """The way through it depends on the data, so that there is no one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.w = nn.Parameter(torch.empty(32, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x) if float(x.sum()) > 0 else self.second(x)
        return functional.linear(x, self.w)


class Experts(nn.Module):
    """Each token goes through the expert that the gate chooses, one expert after the other, or all at once."""

    def __init__(self, at_once: bool) -> None:
        super().__init__()
        self.at_once = at_once
        self.gate = nn.Linear(64, 3, bias=False)
        self.experts = nn.Parameter(torch.empty(3, 32, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = self.gate(x).argmax(-1)
        if self.at_once:
            return torch.bmm(self.experts[chosen], x[:, :, None])[:, :, 0]
        out = x.new_zeros(len(x), 32)
        for index in chosen.unique():
            rows = torch.where(chosen == index)[0]
            out[rows] = functional.linear(x[rows], self.experts[index])
        return out
