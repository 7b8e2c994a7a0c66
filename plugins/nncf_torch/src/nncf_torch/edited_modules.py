"""Multiplications and thresholds at the boundaries of modules, as hooks that ``torch.compile`` and others trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from attrs import frozen
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function


@frozen
class Multiplication:
    """A factor, or a threshold, at the boundary of a module; the module holds it as a buffer.

    :param name: name of its node in the graph.
    :param buffer: name of the buffer.
    :param at_input: whether it is at the input, or at the output.
    :param operation: ``multiply`` by the number that the buffer holds, or ``keep_large``: see :func:`keep_large`.
    """

    name: str
    buffer: str
    at_input: bool
    operation: str = "multiply"

    def applied(self, tensor: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        """The tensor behind the edit."""
        return keep_large(tensor, number) if self.operation == "keep_large" else tensor * number


def keep_large(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """A tensor with zeros in place of what does not exceed a number in magnitude."""
    if has_torch_function((x, threshold)):
        # one call for those who watch torch functions
        result: torch.Tensor = handle_torch_function(keep_large, (x, threshold), x, threshold)
        return result
    return torch.where(x.abs() > threshold, x, torch.zeros((), dtype=x.dtype, device=x.device))


class MultiplyInput:
    """Forward pre-hook."""

    def __init__(self, edit: Multiplication) -> None:
        self.edit = edit

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Arguments with the first one multiplied."""
        factor = getattr(module, self.edit.buffer)
        if args:
            return (self.edit.applied(args[0], factor), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: self.edit.applied(kwargs[name], factor)}


class MultiplyOutput:
    """Forward hook."""

    def __init__(self, edit: Multiplication) -> None:
        self.edit = edit

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        """The product."""
        return self.edit.applied(output, getattr(module, self.edit.buffer))


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
