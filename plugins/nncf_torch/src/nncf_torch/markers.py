"""Names that training scripts for NNCF 2 call to tell what its tracer is to see.

Here a graph is made by watching a run, without changing PyTorch's operators, so there is little to tell: what they are
given is returned, or runs, as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from nncf_core.errors import ValidationError
from nncf_torch.compressed_modules import CompressedModule
from nncf_torch.quantizers import is_quantized

T = TypeVar("T")


def nncf_model_input(tensor: T) -> T:
    """The tensor: inputs are the arguments of ``forward``."""
    return tensor


def nncf_model_output(tensor: T) -> T:
    """The tensor: outputs are what ``forward`` returns."""
    return tensor


def register_module(
    *quantizable_field_names: str,
    ignored_algorithms: list[str] | None = None,
    target_weight_dim_for_compression: int = 0,
) -> Callable[[type[T]], type[T]]:
    """A decorator that returns the class: weights are found by what operators do with them, whoever holds them."""

    def same(cls: type[T]) -> type[T]:
        return cls

    return same


def register_operator(name: str | None = None, *args: Any, **kwargs: Any) -> Callable[[T], T]:
    """A decorator that returns the function: every function of torch that runs is seen."""

    def same(function: T) -> T:
        return function

    return same


@contextmanager
def no_nncf_trace() -> Iterator[None]:
    """While this lasts, no function is seen, and none of its tensors quantized."""
    if torch._C._len_torch_function_stack():
        with torch._C.DisableTorchFunction():
            yield
    else:
        yield


@contextmanager
def forward_nncf_trace() -> Iterator[None]:
    """Nothing: runs are watched when a graph is made."""
    yield


@contextmanager
def disable_patching() -> Iterator[None]:
    """Nothing: operators of PyTorch are not changed."""
    yield


def disable_tracing(method: Callable[..., T]) -> None:
    """Let a method of a class, from now on, run without being seen; what it computes is not compressed.

    :param method: a bound method, as ``model.layer.forward``.
    :raises ValidationError: for another function.
    """
    owner = getattr(method, "__self__", None)
    if owner is None:
        raise ValidationError("disable_tracing takes a bound method, for example model.layer.compute.")

    def unseen(*args: Any, **kwargs: Any) -> T:
        with no_nncf_trace():
            return method(*args, **kwargs)

    setattr(owner, method.__name__, unseen)


def is_wrapped_model(model: Any) -> bool:
    """Whether a module is one that compression has changed."""
    return isinstance(model, nn.Module) and any(
        isinstance(part, CompressedModule) or is_quantized(part) for part in model.modules()
    )


def wrap_model(model: nn.Module, example_input: Any = None, trace_parameters: bool = False) -> nn.Module:
    """The model: nothing need be wrapped around it."""
    return model


def force_build_cpu_extensions() -> None:
    """Nothing: there are no extensions to build."""


def force_build_cuda_extensions() -> None:
    """Nothing: there are no extensions to build."""
