"""Carrying out transformations on an ``nn.Module``, one by one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.graph import Graph
from nncf_core.transformations import CompressConstant, InsertMultiply, ReplaceConstant, Transformation
from nncf_torch.compressed_modules import put_compressed, put_float
from nncf_torch.module_model import ModuleModel
from nncf_torch.places import Place, places
from nncf_torch.refusals import refusal
from nncf_torch.stored import encode
from nncf_torch.tensors import dtype_name, tensor_of


def apply(model: ModuleModel, graph: Graph, transformations: Iterable[Transformation]) -> ModuleModel:
    """Change a model in place, see :meth:`nncf_core.contracts.TargetPointInserter.apply`."""
    known = places(model.module)
    for transformation in transformations:
        if isinstance(transformation, CompressConstant):
            _compress(_place(known, transformation.constant), transformation, graph)
        elif isinstance(transformation, ReplaceConstant):
            _replace(_place(known, transformation.constant), transformation)
        else:
            _multiply(model, graph, transformation)
    return model


def _place(known: dict[str, Place], name: str) -> Place:
    if name not in known:
        raise ValidationError(f"The model has no constant {name!r}.")
    return known[name]


def _compress(place: Place, command: CompressConstant, graph: Graph) -> None:
    tensor = command.tensor
    if tuple(tensor.shape) != place.shape:
        raise ValidationError(f"The constant {place.name!r} has shape {place.shape}, its codes {tensor.shape}.")
    reason = refusal(graph, graph.constants[place.name])
    if reason is not None:
        raise ParameterNotSupportedError(f"The constant {place.name!r} cannot be compressed: {reason}")
    stored, parts = encode(tensor, place.device)
    for owner, attribute in place.owners:
        put_compressed(owner, attribute, stored, parts)


def _replace(place: Place, command: ReplaceConstant) -> None:
    if tuple(command.value.shape) != place.shape:
        raise ValidationError(
            f"The new values of {place.name!r} have shape {command.value.shape}; the constant has {place.shape}."
        )
    array = command.value.astype(np.dtype(dtype_name(place.dtype)))
    tensor: torch.Tensor = tensor_of(array).to(place.device)
    if place.is_parameter:
        trained = place.tensor is not None and place.tensor.requires_grad
        tensor = nn.Parameter(tensor, requires_grad=trained)
    for owner, attribute in place.owners:
        put_float(owner, attribute, tensor, parameter=place.is_parameter)


def _multiply(model: ModuleModel, graph: Graph, command: InsertMultiply) -> None:
    raise ParameterNotSupportedError("not yet")
