"""A device that is none: its tensors lie in the CPU's memory, but nothing gets at them there but by a copy.

Operators on them run on the CPU, mixed devices are refused as a GPU would, and copies to the CPU are written down. So
what PyTorch models on a GPU go through is run without one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

DEVICE = torch.device("cuda", 0)

COPIED: list[int] = []
"""Elements of each tensor that was copied to the CPU."""


class Elsewhere(torch.Tensor):
    """A tensor on the device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        # to PyTorch's own code it is a tensor without memory, as the tensors of torch.export are
        self = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device="meta"
        )
        self.inner = inner
        return self

    device = property(lambda self: DEVICE)
    is_meta = property(lambda self: False)

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __deepcopy__(self, memo: Any) -> Elsewhere:
        return memo.setdefault(id(self), Elsewhere(self.inner.clone()))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        inner_args, inner_kwargs = pytree.tree_map(_inner, (args, kwargs))
        if func is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu"):
            COPIED.append(args[0].numel())
            return func(*inner_args, **inner_kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            COPIED.append(1)
            return func(*inner_args)
        # as on a GPU, numbers of the CPU without dimensions may take part
        assert all(isinstance(tensor, Elsewhere) or tensor.dim() == 0 for tensor in tensors), f"{func}: two devices"
        if "device" in inner_kwargs:
            inner_kwargs["device"] = torch.device("cpu")
        result = func(*inner_args, **inner_kwargs)
        changed = args and isinstance(args[0], Elsewhere) and result is args[0].inner
        return args[0] if changed else pytree.tree_map(_outer, result)


def _inner(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, Elsewhere) else leaf


def _outer(leaf: Any) -> Any:
    return Elsewhere(leaf) if isinstance(leaf, torch.Tensor) else leaf


class ElsewhereMode(TorchFunctionMode):
    """Lets functions that make tensors know the device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.device or not any(_is_it(leaf) for leaf in (*args, *kwargs.values())):
            return func(*args, **kwargs)
        if isinstance(args[0], Elsewhere):  # already there
            args = tuple(arg for arg in args if not _is_it(arg))
            kwargs = {name: value for name, value in kwargs.items() if not _is_it(value)}
            return func(*args, **kwargs) if len(args) + len(kwargs) > 1 else args[0]
        args = tuple("cpu" if _is_it(arg) else arg for arg in args)
        kwargs = {name: "cpu" if _is_it(value) else value for name, value in kwargs.items()}
        return Elsewhere(func(*args, **kwargs))


def _is_it(argument: Any) -> bool:
    return isinstance(argument, (torch.device, str)) and str(argument) == str(DEVICE)


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its tensors on the device; shared ones stay shared."""
    known: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                there = torch.nn.Parameter(Elsewhere(parameter.detach()), parameter.requires_grad)
                module._parameters[name] = known.setdefault(id(parameter), there)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = Elsewhere(buffer)
    return model
