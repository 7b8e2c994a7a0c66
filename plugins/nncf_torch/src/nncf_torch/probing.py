"""The tensors at points for an item of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from nncf_core.errors import UnsupportedDatasetError
from nncf_torch.graph_model import GraphModel
from nncf_torch.hook_tracing import Probe, run_probe
from nncf_torch.inputs import Call, bound, call_of, flat_names
from nncf_torch.module_model import ModuleModel
from nncf_torch.running import run_graph
from nncf_torch.tensors import array_of


def tensors_at(model: ModuleModel | GraphModel, part: GraphModel | Probe, item: Any) -> dict[str, np.ndarray]:
    """Arrays by ``str(point)``; of a module that is watched, those of the points that the item comes by.

    :param model: the whole model, which says what its arguments are called.
    :param part: the sub-model that gives the points.
    :raises UnsupportedDatasetError: when the item does not fit the model's inputs.
    """
    call = call_of(item)
    if isinstance(model, ModuleModel):
        call = bound(model.module, call)
    if isinstance(part, Probe):
        found = run_probe(part, call, {}, partly=True)
    else:
        found = run_graph(part, _by_name(model, part, call))
    return {name: array_of(tensor) for name, tensor in found.items()}


def _by_name(model: ModuleModel | GraphModel, part: GraphModel, call: Call) -> dict[str, torch.Tensor]:
    leaves = pytree.tree_leaves((call.args, dict(call.kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    names = [name for name, _ in part.inputs()]
    if isinstance(model, ModuleModel):
        given = dict(zip(flat_names(model.module, call), tensors, strict=True))
    elif call.kwargs and set(call.kwargs) == set(names):
        given = {name: call.kwargs[name] for name in names}
    elif call.kwargs or len(tensors) != len(names) or len(tensors) != len(leaves):
        kind = f"the keys {sorted(call.kwargs)}" if call.kwargs else f"{len(leaves)} values"
        raise UnsupportedDatasetError(f"An item of the dataset is {kind}; the model's inputs are {names}.")
    else:
        given = dict(zip(names, tensors, strict=True))
    _check_ranks(part, given)
    return given


def _check_ranks(part: GraphModel, given: Mapping[str, torch.Tensor]) -> None:
    for name, node in part.inputs():
        value, tensor = node.meta.get("val"), given.get(name)
        if isinstance(value, torch.Tensor) and tensor is not None and value.dim() != tensor.dim():
            raise UnsupportedDatasetError(
                f"The input {name!r} has {value.dim()} dimensions; an item of the dataset has {tensor.dim()}."
            )
