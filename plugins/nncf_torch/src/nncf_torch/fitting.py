"""What inputs of a model take, and what items of a dataset give them, for messages."""

from __future__ import annotations

from typing import Any

import torch
from attrs import evolve
from torch.utils import _pytree as pytree

from nncf_core.errors import UnsupportedDatasetError
from nncf_core.graph import Graph
from nncf_core.misfits import InputType, misfit, type_of
from nncf_core.running import feeds_of
from nncf_torch.graph_model import GraphModel
from nncf_torch.inputs import Call, bound, call_of, flat_names, named_leaves
from nncf_torch.module_model import ModuleModel
from nncf_torch.tensors import dtype_name


def given_types(model: ModuleModel | GraphModel, item: Any) -> dict[str, InputType]:
    """Type and shape of the tensors of an item, as :func:`given_tensors` names them."""
    return {name: tensor_type(tensor) for name, tensor in given_tensors(model, item).items()}


def given_tensors(model: ModuleModel | GraphModel, item: Any) -> dict[str, torch.Tensor]:
    """The tensors of an item by the names of the inputs that take them, as far as they are known."""
    call = call_of(item)
    if isinstance(model, ModuleModel):
        try:
            call = bound(model.module, call)
        except UnsupportedDatasetError:
            return _by_path(call)
        names = flat_names(model.module, call)
    else:
        names = [name for name, _ in model.inputs()]
        if call.kwargs:
            return _by_path(call)
    leaves = pytree.tree_leaves((call.args, dict(call.kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    return dict(zip(names, tensors, strict=False))


def taken_types(model: ModuleModel | GraphModel, graph: Graph) -> dict[str, InputType]:
    """What each input takes: of a module, what its example has, for any number of samples."""
    if not isinstance(model, ModuleModel) or model.example is None:
        return {name: type_of(port) for name, port in feeds_of(graph).items()}
    example = given_types(model, model.example.args or dict(model.example.kwargs))
    return {name: InputType(kind.dtype, kind.shape and (None, *kind.shape[1:])) for name, kind in example.items()}


def check_fit(model: ModuleModel | GraphModel, item: Any, index: int) -> None:
    """Whether an item has the types, ranks and sizes that an exported program says of its inputs.

    Statistics run only what leads to where they are of, which need not come by the operator that would refuse an item.
    Any number of samples is taken that operators take: along the first axis sizes are not compared.

    :param index: of the item in the dataset.
    :raises UnsupportedDatasetError: when it does not.
    """
    if not isinstance(model, GraphModel) or model.program is None:
        return
    given, wrong = given_types(model, item), dict[str, InputType]()
    for name, node in model.inputs():
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor) or name not in given:
            continue
        taken = InputType(dtype_name(value.dtype), tuple(n if isinstance(n, int) else None for n in value.shape))
        any_number = evolve(taken, shape=taken.shape and (None, *taken.shape[1:]))
        if not (taken.takes_type(given[name]) and any_number.takes_shape(given[name])):
            wrong[name] = taken
    if wrong:
        said = "Programs take what they were exported with; only the number of samples, the first size, may differ."
        raise misfit(index, given, wrong, said)


def tensor_type(tensor: torch.Tensor) -> InputType:
    """Type and shape of a tensor."""
    return InputType(dtype_name(tensor.dtype), tuple(tensor.shape))


def _by_path(call: Call) -> dict[str, torch.Tensor]:
    return dict(named_leaves(dict(call.kwargs) or call.args))
