"""Where an ``nn.Module`` holds constants: each under one name, however many modules share it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
import torch
from attrs import evolve, frozen
from torch import nn

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import Constant
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.tensor import CompressedTensor
from nncf_torch.compressed_modules import names_of_stored_parts, parts_of, weights_of
from nncf_torch.masks import Mask, evaluated_weight, masks_of, names_of_mask_parts
from nncf_torch.rounded_weights import Rounding, codes_of, held, parts_of_roundings, roundings_of
from nncf_torch.stored import Stored, decode, stored_bytes
from nncf_torch.tensors import array_of, dtype_name, numpy_of, resident_of
from nncf_torch.trained_weights import Trained, names_of_parts, trained_parts_of, trained_tensor, trainings_of


@frozen(eq=False)
class Place:
    """A constant, and the modules that hold it.

    :param name: as in the original's ``state_dict``, of the first module.
    :param owners: modules with the name of the attribute.
    :param tensor: the values; ``None`` when it is compressed.
    :param stored: what its tensors mean when it is compressed.
    """

    name: str
    owners: tuple[tuple[nn.Module, str], ...]
    tensor: torch.Tensor | None
    stored: Stored | None = None

    @property
    def rounding(self) -> Rounding | None:
        """Which integers its values are rounded to when they are read."""
        owner, attribute = self.owners[0]
        return roundings_of(owner).get(attribute)

    @property
    def trained(self) -> Trained | None:
        """How its values are rounded when they are read, where that is trained."""
        owner, attribute = self.owners[0]
        return trainings_of(owner).get(attribute)

    @property
    def mask(self) -> Mask | None:
        """What its values are multiplied by when they are read."""
        owner, attribute = self.owners[0]
        return masks_of(owner).get(attribute)

    @property
    def effective(self) -> torch.Tensor | None:
        """The values as its mask leaves them in evaluation, without gradients; ``None`` when it is compressed."""
        if self.tensor is None or self.mask is None:
            return self.tensor
        with torch.no_grad():
            return evaluated_weight(*self.owners[0], self.tensor)

    @property
    def parts(self) -> dict[str, torch.Tensor]:
        """The tensors of the compressed form."""
        return parts_of(*self.owners[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (decompressed) constant."""
        if self.stored is not None:
            return self.stored.shape
        assert self.tensor is not None
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the (decompressed) constant."""
        if self.stored is not None:
            return self.stored.dtype
        assert self.tensor is not None
        return self.tensor.dtype

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return (self.parts["codes"] if self.tensor is None else self.tensor).device

    @property
    def is_parameter(self) -> bool:
        """Whether it is a parameter, or was one before it was compressed."""
        return self.tensor is None or isinstance(self.tensor, nn.Parameter)


def places(model: nn.Module) -> dict[str, Place]:
    """Every constant of a model by name, in the order of the modules."""
    found: dict[Hashable, Place] = {}
    for prefix, owner in model.named_modules():
        for attribute, tensor, stored in _held(owner):
            name = f"{prefix}.{attribute}" if prefix else attribute
            key = identity(parts_of(owner, attribute)["codes"] if tensor is None else tensor)
            known = found.get(key)
            if known is None:
                found[key] = Place(name, ((owner, attribute),), tensor, stored)
            else:
                found[key] = Place(known.name, (*known.owners, (owner, attribute)), known.tensor, known.stored)
    return {place.name: place for place in found.values()}


def _held(owner: nn.Module) -> Iterator[tuple[str, torch.Tensor | None, Stored | None]]:
    of_roundings = parts_of_roundings(owner) | names_of_parts(owner) | names_of_mask_parts(owner)
    for attribute, parameter in owner._parameters.items():
        if parameter is not None and attribute not in of_roundings:
            yield attribute, parameter, None
    compressed = weights_of(owner)
    for attribute, stored in compressed.items():
        yield attribute, None, stored
    parts = of_roundings | names_of_stored_parts(owner)
    for attribute, buffer in owner._buffers.items():
        if buffer is not None and attribute not in parts:
            yield attribute, buffer, None


def identity(tensor: torch.Tensor) -> Hashable:
    """Equal for tensors that are the same elements in memory."""
    if tensor.numel() == 0 or tensor.device.type == "meta" or tensor.layout != torch.strided:
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def constant_of(place: Place) -> Constant:
    """What algorithms see of it."""
    stored = place.stored
    if stored is None:
        constant = _stored_as_float(place, lambda: place.effective)
        return constant if place.mask is None else evolve(constant, masked=True)
    return compressed_constant(place.name, stored, place.parts)


def _stored_as_float(place: Place, values: Callable[[], torch.Tensor | None]) -> Constant:
    """What algorithms see of a constant that is not compressed.

    :param values: what its mask leaves.
    """
    name, tensor, rounding = place.name, place.tensor, place.rounding
    assert tensor is not None
    of_mask = None if place.mask is None else values
    if rounding is not None:
        return rounded_constant(name, tensor, *held(*place.owners[0]), rounding, of_mask)
    if place.trained is not None:
        return trained_constant(name, tensor, trained_parts_of(*place.owners[0]), place.trained, of_mask)
    return float_constant(name, tensor, of_mask)


Masked: TypeAlias = "Callable[[], torch.Tensor | None] | None"
"""Reads what the mask of a constant leaves; ``None`` where it has none."""


def float_constant(name: str, tensor: torch.Tensor, masked: Masked = None) -> Constant:
    """What algorithms see of a constant that is neither compressed nor rounded.

    Reading one on the ``meta`` device raises an UnsupportedModelError.
    """

    def with_values() -> torch.Tensor:
        if tensor.is_meta:
            raise UnsupportedModelError(
                f"The constant {name!r} is on the meta device, and so has no values: load the model."
            )
        return _values(tensor, masked)

    return Constant(
        name,
        dtype_name(tensor.dtype),
        tuple(tensor.shape),
        lambda: array_of(with_values()),
        stored_bytes=stored_bytes({"float": tensor}),
        on_device=lambda: resident_of(with_values()),
    )


def rounded_constant(
    name: str,
    tensor: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    rounding: Rounding,
    masked: Masked = None,
) -> Constant:
    """What algorithms see of a weight that is rounded when it is read."""

    def codes() -> CompressedTensor:
        return codes_of(_values(tensor, masked), scale, zero_point, rounding)

    return Constant(
        name,
        dtype_name(tensor.dtype),
        tuple(tensor.shape),
        lambda: decompress(codes()),
        stored_bytes=stored_bytes({"float": tensor, "scale": scale, "zero_point": zero_point}),
        compressed=codes,
        compressed_format=rounding.format,
        granularity=("per tensor" if rounding.axis is None else "per channel") + ", rounded when read",
        stored_as_float=True,
    )


def trained_constant(
    name: str,
    tensor: torch.Tensor,
    parts: Mapping[str, torch.Tensor],
    trained: Trained,
    masked: Masked = None,
) -> Constant:
    """What algorithms see of a weight that is rounded when it is read, and trained."""

    def codes() -> CompressedTensor:
        return trained_tensor(trained, _values(tensor, masked), parts)

    stored = trained.stored
    shared = "per channel" if stored.group_size == -1 else f"group size {stored.group_size}"
    return Constant(
        name,
        dtype_name(tensor.dtype),
        tuple(tensor.shape),
        lambda: decompress(codes()),
        stored_bytes=stored_bytes({"float": tensor, **parts}),
        compressed=codes,
        compressed_format=stored.format,
        granularity=f"{shared}, rounded when read",
        stored_as_float=True,
    )


def _values(tensor: torch.Tensor, masked: Masked) -> torch.Tensor:
    found = None if masked is None else masked()
    return tensor if found is None else found


def compressed_constant(name: str, stored: Stored, parts: dict[str, torch.Tensor]) -> Constant:
    """What algorithms see of a compressed weight."""

    def values() -> np.ndarray | torch.Tensor:
        return decompress(decode(stored, parts))

    return Constant(
        name,
        dtype_name(stored.dtype),
        stored.shape,
        lambda: numpy_of(values()),
        stored_bytes=stored_bytes(parts),
        on_device=values,
        compressed=lambda: decode(stored, parts),
        compressed_format=stored.format,
        granularity="per channel" if stored.group_size == -1 else f"group size {stored.group_size}",
    )
