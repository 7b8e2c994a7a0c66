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

from nncf_core.collecting import check_samples
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
    :raises UnsupportedDatasetError: when it is ``None`` or a text, or holds no sample.
    """
    if item is None or isinstance(item, (str, bytes)):
        what = "None" if item is None else f"a {type(item).__name__}"
        raise UnsupportedDatasetError(
            f"Item {index} of the dataset is {what}; give a tensor or an array, a tuple of positional arguments, or a "
            "dict of keyword arguments."
        )
    check_samples({name: tuple(leaf.shape) for name, leaf in _leaves(item)}, index)


def _leaves(item: Any) -> list[tuple[str, torch.Tensor]]:
    call = call_of(item)
    return named_leaves(call.args[0] if len(call.args) == 1 else call.args or dict(call.kwargs))


def _tensors(value: Any) -> Any:
    return pytree.tree_map(lambda leaf: tensor_of(leaf.copy()) if isinstance(leaf, np.ndarray) else leaf, value)


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
    leaves, _ = pytree.tree_flatten_with_path(value)
    return [
        (".".join(filter(None, [prefix, *(_key(key) for key in path)])), leaf)
        for path, leaf in leaves
        if isinstance(leaf, torch.Tensor)
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
