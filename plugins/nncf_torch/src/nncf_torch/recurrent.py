"""Compressed weights of ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``, which give their kernels a list of all weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_LIST = "_flat_weights"
"""Attribute of a recurrent module."""


def members_of(base: type[nn.Module]) -> dict[str, Any]:
    """What a class made from a recurrent one has besides, so that the list is made when it is read; else nothing."""
    if not issubclass(base, nn.RNNBase):
        return {}
    # what keeps the list up to date would decompress all weights to do so
    unneeded = ("_update_flat_weights", "_init_flat_weights", "flatten_parameters")
    return {_LIST: property(_listed, _nothing), **dict.fromkeys(unneeded, _nothing)}


def forget_list(module: nn.Module) -> None:
    """Let a module no longer hold its weights in a list."""
    if isinstance(module, nn.RNNBase):
        module.__dict__.pop(_LIST, None)


def make_list(module: nn.Module) -> None:
    """Let a module of a class that is not compressed hold its list again."""
    if isinstance(module, nn.RNNBase):
        module._init_flat_weights()


def _listed(module: nn.RNNBase) -> list[torch.Tensor | None]:
    names, state = module._flat_weights_names, torch._C._get_tracing_state()
    if state is None:
        return [getattr(module, name, None) for name in names]
    # torch.jit.trace takes them as constants: OpenVINO's converter knows no recurrent layers with other weights
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        return [getattr(module, name, None) for name in names]
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


def _nothing(*_: Any) -> None:
    """Take the place of a method."""
