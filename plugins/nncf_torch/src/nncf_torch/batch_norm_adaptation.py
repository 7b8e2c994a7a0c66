"""Means and variances of normalization, of a model whose weights were changed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nncf_torch.inputs import call_of
from nncf_torch.running import on_device


def adapt(model: nn.Module, items: Iterable[Any], iterations: int | None = None) -> None:
    """Let normalization see data, in place: running statistics move with their own momentum.

    All of the model runs in evaluation mode but its normalization; afterwards each module is in its own mode again.

    :param items: inputs of the model: a tuple is positional arguments, a dict keyword arguments.
    :param iterations: number of items; ``None``: all.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.training = True
        with torch.no_grad():
            for item in islice(items, iterations):
                call = on_device(model, call_of(item))
                model(*call.args, **call.kwargs)
    finally:
        for module, training in modes:
            module.training = training
