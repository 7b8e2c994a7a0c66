"""Inputs of models: as users give them, and as arrays by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import nn
from torch.utils import _pytree as pytree

from nncf_core.collecting import check_samples, with_nan
from nncf_core.errors import UnsupportedDatasetError
from nncf_torch.tensors import tensor_of


@frozen(eq=False)
class Call:
    """Arguments of a model."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def call_of(item: Any) -> Call:
    """The arguments that an item of a dataset, or an example input, stands for.

    A tuple is positional arguments, a mapping keyword arguments, anything else the only argument. Arrays become
    tensors.
    """
    if isinstance(item, tuple):
        return Call(tuple(_tensors(value) for value in item), {})
    if isinstance(item, Mapping):
        return Call((), {str(name): _tensors(value) for name, value in item.items()})
    return Call((_tensors(item),), {})


def check_item(item: Any, index: int) -> None:
    """Whether an item of a dataset may be an input.

    :param index: of the item, for messages.
    :raises UnsupportedDatasetError: when it is ``None`` or a text, holds an array that is none of numbers or a tensor
        without values, or no sample.
    """
    if item is None or isinstance(item, (str, bytes)):
        what = "None" if item is None else f"a {type(item).__name__}"
        raise UnsupportedDatasetError(
            f"Item {index} of the dataset is {what}; give a tensor or an array, a tuple of positional arguments, or a "
            "dict of keyword arguments."
        )
    leaves = _leaves(item)
    for name, leaf in leaves:
        fault = _fault(leaf)
        if fault is not None:
            holds = f"holds in {name!r}" if name else "is"
            raise UnsupportedDatasetError(
                f"Item {index} of the dataset {holds} {fault}; give tensors or arrays of numbers, or pass a "
                "transform_func to nncf.Dataset that makes them."
            )
    check_samples({name: tuple(leaf.shape) for name, leaf in leaves}, index)


def check_numbers(tensors: Mapping[str, torch.Tensor], index: int) -> None:
    """Whether there is NaN in an item of a dataset.

    :param tensors: those of the item, by the names of inputs.
    :raises ValidationError: when there is.
    """
    for name, tensor in tensors.items():
        # there is no such test for floats of 8 bits
        if tensor.is_floating_point() and tensor.element_size() > 1 and bool(tensor.isnan().any()):
            raise with_nan(index, name)


def _leaves(item: Any) -> list[tuple[str, torch.Tensor | np.ndarray]]:
    if isinstance(item, Mapping):
        item = {str(name): value for name, value in item.items()}
    return _named(item[0] if isinstance(item, tuple) and len(item) == 1 else item, (torch.Tensor, np.ndarray))


def _fault(leaf: torch.Tensor | np.ndarray) -> str | None:
    """Why a model cannot be run on a tensor or an array."""
    if isinstance(leaf, torch.Tensor):
        return "a tensor on the meta device, which has no values" if leaf.is_meta else None
    try:
        tensor_of(np.empty(0, leaf.dtype))
    except (TypeError, ValueError):
        kind = "text" if leaf.dtype.kind in "US" else leaf.dtype.name
        return f"an array of {kind}, of which PyTorch makes no tensor"
    return None


def _tensors(value: Any) -> Any:
    return pytree.tree_map(lambda leaf: _tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, value)


def _tensor(array: np.ndarray) -> torch.Tensor:
    fault = _fault(array)
    if fault is not None:
        raise UnsupportedDatasetError(f"An input for the model is {fault}; give an array of numbers.")
    return tensor_of(array.copy())


def bound(module: nn.Module, call: Call) -> Call:
    """The same call with keyword arguments in place of positional ones where the signature has a name for them.

    :raises UnsupportedDatasetError: when the arguments do not fit the signature.
    """
    signature = inspect.signature(module.forward)
    try:
        arguments = signature.bind(*call.args, **call.kwargs)
    except TypeError as error:
        raise UnsupportedDatasetError(
            f"An input does not fit the model: {error}. forward{signature}; a tuple gives positional arguments, a dict "
            "keyword arguments."
        ) from None
    return Call(arguments.args, arguments.kwargs)


def flat_names(module: nn.Module, call: Call) -> list[str]:
    """Names of the tensors among the arguments, in the order of the flattened arguments."""
    signature = inspect.signature(module.forward)
    named = dict(signature.bind(*call.args, **call.kwargs).arguments)
    return [name for name, _ in named_leaves(named)]


def with_tensors(module: nn.Module, call: Call, tensors: Mapping[str, torch.Tensor]) -> Call:
    """The call with other tensors in place of its own, by their names."""
    names = iter(flat_names(module, call))

    def changed(leaf: Any) -> Any:
        return tensors.get(next(names), leaf) if isinstance(leaf, torch.Tensor) else leaf

    args, kwargs = pytree.tree_map(changed, (call.args, dict(call.kwargs)))
    return Call(args, kwargs)


def named_leaves(value: Any, prefix: str = "") -> list[tuple[str, torch.Tensor]]:
    """The tensors in nested containers with a name from the path to each, e.g. ``pair.1``."""
    return _named(value, torch.Tensor, prefix)


def _named(value: Any, kinds: type | tuple[type, ...], prefix: str = "") -> list[tuple[str, Any]]:
    leaves, _ = pytree.tree_flatten_with_path(value)
    return [
        (".".join(filter(None, [prefix, *(_key(key) for key in path)])), leaf)
        for path, leaf in leaves
        if isinstance(leaf, kinds)
    ]


def _key(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def named_outputs(value: Any) -> dict[str, torch.Tensor]:
    """Outputs by name: ``output`` for a single tensor, otherwise the path in the containers that hold it."""
    if isinstance(value, torch.Tensor):
        return {"output": value}
    return dict(named_leaves(value))
