"""Training of compressed networks on scikit-learn's digits, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import nncf
import nncf.torch
from tests.backends.digits import images, train

SIZE, HEADS, WIDTH, HIDDEN = 8, 2, 32, 64


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm1(x)
        q, k, v = (p(h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (self.query, self.key, self.value))
        x = x + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Rows(nn.Module):
    """A transformer that reads the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(SIZE, WIDTH)
        self.positions = nn.Parameter(torch.randn(SIZE, WIDTH) * 0.1)
        self.layers = nn.Sequential(Layer(), Layer())
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.embed(x.squeeze(1)) + self.positions).mean(1))


@cache
def rows() -> nn.Module:
    """The trained transformer; nobody changes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Rows()
        train(model, 40, 3e-3)
    return model


def config(*sections: Mapping[str, Any], **more: Any) -> nncf.NNCFConfig:
    """A config for images, with the training images registered."""
    made = nncf.NNCFConfig.from_dict(
        {"input_info": {"sample_size": [1, 1, SIZE, SIZE]}, "compression": list(sections), **more}
    )
    x, y, _, _ = images()
    loader = DataLoader(TensorDataset(x, y), 64)
    return nncf.torch.register_default_init_args(made, loader)


def optimizer_of(model: nn.Module, rate: float = 1e-3, of_scores: float = 0.1) -> torch.optim.Optimizer:
    """Scores of masks move in other units than weights."""
    named = list(model.named_parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for n, p in named if not n.endswith("_mask_scores")]},
            {"params": [p for n, p in named if n.endswith("_mask_scores")], "lr": of_scores, "weight_decay": 0.0},
        ],
        lr=rate,
    )


def fit(
    controller: Any,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: Sequence[int],
    tell: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Train for some epochs, by number, whose order of images depends on the number alone; the losses of all steps."""
    x, y, _, _ = images()
    losses = []
    for epoch in epochs:
        controller.scheduler.epoch_step()
        model.train()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for chosen in order.split(64):
            controller.scheduler.step()
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[chosen]), y[chosen]) + controller.loss()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        tell(epoch)
    model.eval()
    return losses


def zeros(arrays: Any) -> float:
    """Share of zeros of arrays together."""
    arrays = list(arrays)
    return sum(int((array == 0).sum()) for array in arrays) / sum(array.size for array in arrays)
