"""Carrying out transformations on an ``nn.Module``, one by one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from attrs import evolve
from torch import nn

from nncf_core.errors import ValidationError
from nncf_core.graph import Graph, Node
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import (
    CompressConstant,
    FoldMask,
    InsertBias,
    InsertLowRank,
    InsertMask,
    InsertMultiply,
    InsertQuantizer,
    InsertThreshold,
    MaskKind,
    PointKind,
    ReplaceConstant,
    ResizeOutput,
    ShrinkConstant,
    Training,
    Transformation,
    is_extension,
    masks,
)
from nncf_torch.biases import add_bias
from nncf_torch.boundaries import module_at, path_of, runnable_point
from nncf_torch.branches import add_branches
from nncf_torch.compressed_modules import compress_everywhere, drop_mask, put_float, put_mask, put_trained, weights_of
from nncf_torch.edited_modules import Multiplication, add_multiplication, free_buffer_name, multiplications_of
from nncf_torch.masks import let_count, new_mask
from nncf_torch.module_model import ModuleModel
from nncf_torch.places import Place, places
from nncf_torch.quantizers import add_quantizer, let_quantize, quantizers_of
from nncf_torch.recurrent import make_list
from nncf_torch.rounded_weights import Rounding, put_rounding, quantizer_of, tensors_of
from nncf_torch.shrinking import shrink
from nncf_torch.stored import encode
from nncf_torch.tensors import cast_tensor, tensor_of, torch_dtype
from nncf_torch.ties import without_ties
from nncf_torch.trained_weights import fitted, freeze, prepare


def apply(model: ModuleModel, graph: Graph, transformations: Iterable[Transformation]) -> ModuleModel:
    """Change a model in place, see :meth:`nncf_core.contracts.TargetPointInserter.apply`."""
    known = places(model.module)
    model.traced = None
    trained = False
    for transformation in transformations:
        if isinstance(transformation, CompressConstant):
            place = _place(known, transformation.constant)
            known[place.name] = _compressed(model.module, place, transformation)
            trained |= transformation.training is not None
        elif isinstance(transformation, ReplaceConstant):
            place = _place(known, transformation.constant)
            known[place.name] = _replaced(place, transformation)
        elif isinstance(transformation, ShrinkConstant):
            place = _place(known, transformation.constant)
            known[place.name] = shrink(place, transformation)
        elif isinstance(transformation, ResizeOutput):
            continue  # the module's own code says how large things are
        elif isinstance(transformation, (InsertMultiply, InsertThreshold)):
            _multiply(model, graph, transformation)
        elif isinstance(transformation, InsertBias):
            add_bias(model, graph, transformation)
        elif isinstance(transformation, InsertLowRank):
            add_branches(model, graph, transformation)
        elif isinstance(transformation, InsertMask):
            _mask(model.module, _place(known, transformation.constant), transformation)
        elif isinstance(transformation, FoldMask):
            place = _place(known, transformation.constant)
            known[place.name] = _folded(place)
        else:
            _quantize(model, graph, transformation)
    if trained:
        freeze(model.module)
    return model


def _place(known: dict[str, Place], name: str) -> Place:
    if name not in known:
        raise ValidationError(f"The model has no constant {name!r}.")
    return known[name]


def _compressed(root: nn.Module, place: Place, command: CompressConstant) -> Place:
    tensor = command.tensor
    if tuple(tensor.shape) != place.shape:
        raise ValidationError(f"The constant {place.name!r} has shape {place.shape}, its codes {tensor.shape}.")
    if command.training is not None and place.tensor is not None:
        return _trained(place, place.tensor, command.training, tensor)
    quantizer = quantizer_of(tensor, command.integers) if command.integer_operand else None
    if quantizer is not None and place.tensor is not None:
        place = _settled(place, place.tensor, quantizer)
        scale, zero_point = tensors_of(quantizer, place.device)
        for owner, attribute in place.owners:
            rounding = Rounding(quantizer.lo, quantizer.hi, quantizer.axis, quantizer.float8)
            put_rounding(owner, attribute, rounding, scale, zero_point)
        let_quantize(root)
        return place
    stored, parts = encode(tensor, place.device)
    return Place(place.name, place.owners, None, compress_everywhere(place.owners, stored, parts))


def _settled(place: Place, weight: torch.Tensor, quantizer: Quantizer) -> Place:
    """A weight that is rounded to the codes it was given, in memory of its own where it has to change for that."""
    changed = without_ties(weight, quantizer) if quantizer.float8 is None else None
    if changed is None:
        return place
    parameter = nn.Parameter(changed, requires_grad=weight.requires_grad) if place.is_parameter else None
    for owner, attribute in place.owners:
        # a mask stays
        if parameter is not None:
            owner._parameters[attribute] = parameter
            make_list(owner)
        else:
            owner._buffers[attribute] = changed
    return evolve(place, tensor=changed if parameter is None else parameter)


def _trained(place: Place, weight: torch.Tensor, training: Training, tensor: CompressedTensor) -> Place:
    trained, parameters = prepare(tensor, training, place.name, place.device)
    effective = place.effective
    changed = fitted(trained, weight if effective is None else effective, parameters, tensor)
    if changed is not None and place.is_parameter:
        changed = nn.Parameter(changed)
    for owner, attribute in place.owners:
        if changed is not None:
            put_float(owner, attribute, changed, parameter=place.is_parameter)
        put_trained(owner, attribute, trained, parameters)
    return Place(place.name, place.owners, weight if changed is None else changed)


def _replaced(place: Place, command: ReplaceConstant) -> Place:
    if not is_extension(place.shape, tuple(command.value.shape)):
        raise ValidationError(
            f"The new values of {place.name!r} have shape {command.value.shape}; the constant has {place.shape}."
        )
    tensor: torch.Tensor = cast_tensor(command.value, place.dtype).to(place.device)
    if place.is_parameter:
        trained = place.tensor is not None and place.tensor.requires_grad
        tensor = nn.Parameter(tensor, requires_grad=trained)
    for owner, attribute in place.owners:
        put_float(owner, attribute, tensor, parameter=place.is_parameter)
    return Place(place.name, place.owners, tensor)


def _mask(root: nn.Module, place: Place, command: InsertMask) -> None:
    values = tensor_of(np.ascontiguousarray(command.mask))
    if place.tensor is None:
        raise ValidationError(f"The constant {place.name!r} is stored compressed, and so cannot have a mask.")
    if place.mask is not None:
        raise ValidationError(f"The constant {place.name!r} has a mask already; a constant has at most one.")
    if not masks(place.shape, tuple(values.shape)):
        raise ValidationError(
            f"The mask of {place.name!r} has the shape {tuple(values.shape)}, whose dimensions do not divide those of "
            f"the constant, {place.shape}."
        )
    mask, parts = new_mask(command.kind, values, place.name, place.shape, place.device)
    for owner, attribute in place.owners:
        put_mask(owner, attribute, mask, parts)
    if command.kind is MaskKind.SAMPLED:
        let_count(root)


def _folded(place: Place) -> Place:
    effective = place.effective
    if effective is None or place.mask is None:
        raise ValidationError(f"The constant {place.name!r} has no mask.")
    # memory of its own: the old parameter may be another model's, too
    parameter = nn.Parameter(effective, requires_grad=place.tensor is not None and place.tensor.requires_grad)
    for owner, attribute in place.owners:
        drop_mask(owner, attribute)
        if place.is_parameter:
            owner._parameters[attribute] = parameter
            make_list(owner)
        else:
            owner._buffers[attribute] = effective
    return Place(place.name, place.owners, parameter if place.is_parameter else effective)


def _quantize(model: ModuleModel, graph: Graph, command: InsertQuantizer) -> None:
    point = runnable_point(model, graph, command.target)
    taken = {quantizer.name for part in model.module.modules() for quantizer in quantizers_of(part)}
    name = stem = command.name or f"{point.node}/quantize"
    number = 0
    while name in taken or name in graph:
        number += 1
        name = f"{stem}_{number}"
    add_quantizer(model.module, name, point, _owner(model.module, graph.node(point.node)), command.quantizer)


def _owner(root: nn.Module, node: Node) -> str:
    """The path of the module that runs a node, or that holds the factor of an edit."""
    for path, module in root.named_modules():
        if any(edit.name == node.name for edit in multiplications_of(module)):
            return str(path)
    return path_of(node)


def _multiply(model: ModuleModel, graph: Graph, command: InsertMultiply | InsertThreshold) -> None:
    cut_off = isinstance(command, InsertThreshold)
    value = command.threshold if isinstance(command, InsertThreshold) else command.factor
    point = command.target
    module = module_at(model.module, graph, point)
    node = graph.node(point.node)
    at_input = point.kind is PointKind.INPUT
    port = (node.inputs if at_input else node.outputs)[point.port]
    held = next((tensor for tensor in (*module.parameters(), *module.buffers())), None)
    dtype = torch_dtype(port.dtype) if port.dtype is not None else _dtype(module)
    factor = tensor_of(np.asarray(value, np.float32)).to(dtype)
    taken = {edit.name for part in model.module.modules() for edit in multiplications_of(part)}
    name = stem = command.name or f"{point.node}/{'threshold' if cut_off else 'multiply'}"
    number = 0
    while name in taken or name in graph:
        number += 1
        name = f"{stem}_{number}"
    edit = Multiplication(name, free_buffer_name(module), at_input, "keep_large" if cut_off else "multiply")
    add_multiplication(module, edit, factor if held is None else factor.to(held.device))


def _dtype(module: nn.Module) -> torch.dtype:
    """The element type that a module computes in."""
    stored = [weight.dtype for weight in weights_of(module).values()]
    return next(iter(stored), None) or next((p.dtype for p in module.parameters()), torch.float32)
