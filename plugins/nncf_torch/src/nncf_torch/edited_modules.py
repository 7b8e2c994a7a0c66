"""Multiplications at the inputs and outputs of modules, as hooks that ``torch.compile`` and ``torch.export`` trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from attrs import frozen
from torch import nn


@frozen
class Multiplication:
    """A factor at the boundary of a module; the module holds it as a buffer.

    :param name: name of its node in the graph.
    :param buffer: name of the buffer.
    :param at_input: whether it is at the input, or at the output.
    """

    name: str
    buffer: str
    at_input: bool


class MultiplyInput:
    """Forward pre-hook."""

    def __init__(self, edit: Multiplication) -> None:
        self.edit = edit

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Arguments with the first one multiplied."""
        factor = getattr(module, self.edit.buffer)
        if args:
            return (args[0] * factor, *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: kwargs[name] * factor}


class MultiplyOutput:
    """Forward hook."""

    def __init__(self, edit: Multiplication) -> None:
        self.edit = edit

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        """The product."""
        product: torch.Tensor = output * getattr(module, self.edit.buffer)
        return product


def add_multiplication(module: nn.Module, edit: Multiplication, factor: torch.Tensor) -> None:
    """Let a module multiply from now on; a later one at the same point multiplies the product."""
    module.register_buffer(edit.buffer, factor)
    if edit.at_input:
        module.register_forward_pre_hook(MultiplyInput(edit), with_kwargs=True, prepend=False)
    else:
        module.register_forward_hook(MultiplyOutput(edit))


def multiplications_of(module: nn.Module) -> Iterator[Multiplication]:
    """The multiplications of a module, those at inputs first."""
    for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
        if isinstance(hook, (MultiplyInput, MultiplyOutput)):
            yield hook.edit


def free_buffer_name(module: nn.Module) -> str:
    """A name for the buffer of one more multiplication."""
    number = 0
    while f"nncf_factor_{number}" in module._buffers:
        number += 1
    return f"nncf_factor_{number}"
