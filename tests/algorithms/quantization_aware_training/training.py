"""Models of handwritten digits in training, by configs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import nncf.torch
from nncf import NNCFConfig
from nncf_core.training.control import CompressionAlgorithmController
from tests.backends.digits import convolutions, images

BATCH = 64


def dense() -> nn.Module:
    """The trained network, without what is drawn at random in training."""
    model = copy.deepcopy(convolutions())
    model.drop.p = 0.0
    return model


def config(*sections: Mapping[str, Any], **more: Any) -> NNCFConfig:
    """A config of these sections, with training images to begin with."""
    made = NNCFConfig.from_dict({"input_info": {"sample_size": [1, 1, 8, 8]}, "compression": list(sections), **more})
    x, y, _, _ = images()
    return nncf.torch.register_default_init_args(made, DataLoader(TensorDataset(x, y), batch_size=BATCH))


def batches(epoch: int, size: int = BATCH) -> list[torch.Tensor]:
    """Indices of an epoch's batches, the same for the same epoch."""
    x, _, _, _ = images()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
    return list(order.split(size))


def trained(
    controller: CompressionAlgorithmController,
    model: nn.Module,
    epochs: int,
    first: int = 0,
    rate: float = 5e-4,
    optimizer: torch.optim.Optimizer | None = None,
    tell: Callable[[float], None] = lambda _loss: None,
) -> torch.optim.Optimizer:
    """Train some epochs; each batch's loss is told."""
    x, y, _, _ = images()
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    for epoch in range(first, first + epochs):
        controller.scheduler.epoch_step()
        for chosen in batches(epoch):
            controller.scheduler.step()
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[chosen]), y[chosen]) + controller.loss()
            loss.backward()
            optimizer.step()
            tell(float(loss.detach()))
    model.eval()
    return optimizer
