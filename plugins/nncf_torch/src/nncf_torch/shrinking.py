"""Modules with smaller weights, whose own attributes follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nncf_core.errors import ValidationError
from nncf_core.transformations import ShrinkConstant
from nncf_torch.places import Place
from nncf_torch.rounded_weights import held

_SHRUNK = "_shrunk_constants"
"""Attribute of a module: shapes that its parameters and buffers had, by name."""


def shrunk_of(module: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """The shapes that parameters and buffers of a module had before they were shrunk, by name."""
    found: Mapping[str, tuple[int, ...]] = module.__dict__.get(_SHRUNK, {})
    return found


def shrink(place: Place, command: ShrinkConstant) -> Place:
    """Keep some indices of a constant, in all modules that hold it.

    :raises ValidationError: when it has no such indices, or is compressed.
    """
    old, axis = place.tensor, command.axis
    if old is None or place.trained is not None:
        raise ValidationError(f"The constant {place.name!r} is compressed, and cannot be shrunk.")
    if place.mask is not None:
        raise ValidationError(f"The constant {place.name!r} has a mask; fold it before the constant is shrunk.")
    if not (0 <= axis < old.dim() and command.kept and command.kept[-1] < old.shape[axis]):
        raise ValidationError(f"The constant {place.name!r} of shape {tuple(old.shape)} has no such part: {command}.")
    rounding = place.rounding
    new = part_of(old, axis, command.kept)
    for owner, attribute in place.owners:
        if rounding is not None and rounding.axis == axis:
            _shrink_scales(owner, attribute, command.kept)
        groups = groups_after(owner, tuple(old.shape), tuple(new.shape)) if attribute == "weight" else None
        put_smaller(owner, attribute, new, groups)
    return Place(place.name, place.owners, new)


def part_of(tensor: torch.Tensor, axis: int, kept: tuple[int, ...]) -> torch.Tensor:
    """Some indices along an axis; a parameter where the tensor is one."""
    indices = torch.tensor(kept, device=tensor.device)
    part = tensor.detach().index_select(axis, indices).contiguous()
    return nn.Parameter(part, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part


def groups_after(module: nn.Module, before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """The number of groups that a convolution is left with; ``None`` for other modules."""
    if not isinstance(module, _ConvNd):
        return None
    depthwise = before[0] == module.groups if isinstance(module, _ConvTransposeNd) else before[1] == 1
    return module.groups * after[0] // before[0] if module.groups > 1 and depthwise else module.groups


def put_smaller(module: nn.Module, name: str, tensor: torch.Tensor, groups: int | None) -> None:
    """Let a module hold a smaller parameter or buffer, and its attributes say so.

    :param groups: of a convolution.
    """
    holder = module._parameters if name in module._parameters else module._buffers
    before = holder[name]
    assert before is not None
    module.__dict__[_SHRUNK] = {name: tuple(before.shape), **shrunk_of(module)}
    holder[name] = tensor  # type: ignore[assignment]
    shape = tuple(tensor.shape)
    if isinstance(module, _NormBase):
        module.num_features = shape[0]
    if name != "weight":
        return
    if isinstance(module, _ConvNd) and groups is not None:
        module.groups = groups
        transposed = isinstance(module, _ConvTransposeNd)
        module.in_channels = shape[0] if transposed else shape[1] * groups
        module.out_channels = shape[1] * groups if transposed else shape[0]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif isinstance(module, nn.PReLU):
        module.num_parameters = shape[0]
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = shape


def shrunk_constants(model: nn.Module) -> Iterator[tuple[list[str], dict[str, object]]]:
    """Names of each tensor that was shrunk, and what makes a new model's as small."""
    found: dict[int, tuple[list[str], dict[str, object]]] = {}
    for path, module in model.named_modules():
        for name, before in shrunk_of(module).items():
            tensor = module._parameters.get(name) if name in module._parameters else module._buffers.get(name)
            if tensor is None:  # compressed since
                continue
            groups = module.groups if isinstance(module, _ConvNd) and name == "weight" else None
            values: dict[str, object] = {"before": list(before), "shape": list(tensor.shape), "groups": groups}
            found.setdefault(id(tensor), ([], values))[0].append(f"{path}.{name}".lstrip("."))
    yield from found.values()


def place_shrunk(model: nn.Module, names: list[str], values: Mapping[str, object]) -> None:
    """Make tensors of a new model as small as another's, and empty.

    :raises ValidationError: when they do not have the shape that those had.
    """
    before, shape, groups = values["before"], values["shape"], values["groups"]
    assert isinstance(before, list)
    assert isinstance(shape, list)
    new: torch.Tensor | None = None
    for full in names:
        path, _, name = full.rpartition(".")
        module = model.get_submodule(path)
        old = getattr(module, name)
        if list(old.shape) != before:
            raise ValidationError(
                f"The config is of another model: {full!r} has the shape {list(old.shape)} here, and {before} there."
            )
        if new is None:
            new = torch.zeros(shape, dtype=old.dtype, device=old.device)
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, requires_grad=old.requires_grad)
        put_smaller(module, name, new, groups if isinstance(groups, int) else None)


def _shrink_scales(owner: nn.Module, attribute: str, kept: tuple[int, ...]) -> None:
    """Scales and zero points for each channel of a weight that is rounded when it is read."""
    parts = {id(part) for part in held(owner, attribute) if part.numel() > 1}
    for holder in (owner._parameters, owner._buffers):
        for name, tensor in list(holder.items()):
            if tensor is not None and id(tensor) in parts:
                holder[name] = part_of(tensor, 0, kept)  # type: ignore[assignment]
