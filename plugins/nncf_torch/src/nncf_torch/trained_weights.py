"""Weights that stay in floating point, and are rounded to low-bit integers whenever they are read, to be trained.

A parameter ``w`` keeps its name and its values. Beside it lie parameters, float32 whatever the type of the weight is:

- ``w_half_range``, and ``w_low`` in formats with zero points: the range of each group, of the shape of the scales of
  :mod:`nncf_torch.stored`; :mod:`nncf_torch.straight_through` says what they mean;
- ``w_adapter_b`` and ``w_adapter_a`` where there is an adapter: two matrices whose product is added before rounding.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import Training
from nncf_torch.masks import names_of_mask_parts
from nncf_torch.stored import Stored, grouped_scale_shape, stored_of
from nncf_torch.straight_through import codes_of, round_weight, scale_of, zero_point_of
from nncf_torch.tensors import array_of, dtype_name, tensor_of

TRAINED = "_trained_weights"
"""Attribute of a module: :class:`Trained` by name of the weight."""

TRAINED_PARTS = ("half_range", "low", "adapter_b", "adapter_a")
"""Names of the parameters, in the order of the arguments of :func:`trained_value`."""


class Trained(NamedTuple):
    """How a weight is rounded; a tuple, which ``torch.compile`` reads as a constant.

    :param stored: how it will be stored.
    :param half: whether scales will be stored in float16.
    :param rank: columns of ``adapter_b``, rows of ``adapter_a``; ``0``: there are none.
    :param active_rank: how many of these take part.
    """

    stored: Stored
    half: bool
    rank: int = 0
    active_rank: int = 0

    @property
    def lo(self) -> int:
        """The smallest code."""
        return int(FORMATS[self.stored.format].lo or 0)

    @property
    def hi(self) -> int:
        """The largest code."""
        return int(FORMATS[self.stored.format].hi or 0)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by their names."""
        stored = self.stored
        scales = grouped_scale_shape(stored.scale_shape, stored.group_axis)
        found = {"half_range": scales}
        if self.lo == 0:
            found["low"] = scales
        if self.rank:
            *batch, rows, columns = stored.shape
            found |= {"adapter_b": (*batch, rows, self.rank), "adapter_a": (*batch, self.rank, columns)}
        return found


def trainings_of(module: nn.Module) -> Mapping[str, Trained]:
    """The trained weights that a module itself holds, by name."""
    found: Mapping[str, Trained] = module.__dict__.get(TRAINED, {})
    return found


def trained_parts_of(module: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters beside a trained weight."""
    held = {part: module._parameters.get(f"{name}_{part}") for part in TRAINED_PARTS}
    return {part: parameter for part, parameter in held.items() if parameter is not None}


def names_of_parts(module: nn.Module) -> set[str]:
    """Names of the parameters beside all trained weights of a module."""
    return {f"{name}_{part}" for name in trainings_of(module) for part in TRAINED_PARTS}


def freeze(root: nn.Module) -> None:
    """Let nothing be trained but what lies beside trained weights."""
    for module in root.modules():
        parts = names_of_parts(module) | names_of_mask_parts(module)
        for name, parameter in module._parameters.items():
            # those of classes of their own are the very objects of the model that was given
            if type(parameter) is nn.Parameter and name not in parts:
                parameter.requires_grad_(False)


def prepare(
    tensor: CompressedTensor, training: Training, name: str, device: torch.device
) -> tuple[Trained, dict[str, nn.Parameter]]:
    """How a weight will be rounded, and the parameters with which it is rounded to the codes of a tensor.

    ``adapter_b`` is zero, so that at first nothing is added; ``adapter_a`` is random, uniform with the bound
    ``1 / sqrt(columns)``, the same in each run.

    :param name: of the weight; other weights have other random numbers.
    """
    scale = tensor_of(tensor.scale)
    trained = Trained(stored_of(tensor), scale.dtype is torch.float16, training.adapter_rank, training.adapter_rank)
    shapes = trained.shapes()
    wide = scale.to(device, torch.float32).reshape(shapes["half_range"])
    parts = {"half_range": wide * 2 ** (trained.stored.bits - 1)}
    if tensor.zero_point is not None:
        parts["low"] = -tensor_of(tensor.zero_point).to(device, torch.float32).reshape(wide.shape) * wide
    if trained.rank:
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        bound = 1 / math.sqrt(trained.stored.shape[-1])
        parts["adapter_b"] = torch.zeros(shapes["adapter_b"], device=device)
        parts["adapter_a"] = torch.empty(shapes["adapter_a"]).uniform_(-bound, bound, generator=generator).to(device)
    return trained, {part: nn.Parameter(value) for part, value in parts.items()}


def fitted(
    trained: Trained, weight: torch.Tensor, parts: Mapping[str, torch.Tensor], tensor: CompressedTensor
) -> torch.Tensor | None:
    """A weight that is rounded to the codes of a tensor; ``None`` when the given one is.

    Codes that are not the nearest, such as GPTQ's, are what some elements would not be rounded to. These become what
    their codes stand for; in bfloat16, whose steps are as wide as those of 8 bits, the nearest number to that.
    """
    found, wanted = trained_tensor(trained, weight, parts), tensor.on_host()
    if np.array_equal(found.codes, wanted.codes):
        return None
    bits, size, signed = trained.stored.bits, weight.numel(), trained.lo < 0
    moved = unpack(found.codes, bits, size, signed) != unpack(wanted.codes, bits, size, signed)
    mask = torch.from_numpy(moved.reshape(trained.stored.shape)).to(weight.device)
    return torch.where(mask, tensor_of(decompress(wanted)).to(weight), weight.detach())


def trained_value(
    trained: Trained,
    weight: torch.Tensor,
    half_range: torch.Tensor,
    low: torch.Tensor | None = None,
    adapter_b: torch.Tensor | None = None,
    adapter_a: torch.Tensor | None = None,
) -> torch.Tensor:
    """The weight as operators get it, in its own element type."""
    scale, zero_point = _scales(trained, half_range, low)
    b, a = _active(trained, adapter_b, adapter_a)
    shape = trained.stored.grouped_shape
    value = round_weight(weight, scale, zero_point, b, a, trained.lo, trained.hi, shape)
    if weight.dtype is torch.float32:
        return value
    if weight.dtype is not torch.float64:
        # as what is stored will be decompressed
        limit = torch.finfo(weight.dtype).max
        value = value.clamp(-limit, limit)
    return value.to(weight.dtype)


def has_own_rows(trained: Trained) -> bool:
    """Whether a matrix can be rounded row by row: rows share no scale."""
    stored = trained.stored
    return len(stored.shape) == 2 and stored.reduction_axes == (1,) and stored.group_axis in (None, 1)


def trained_rows(
    trained: Trained, weight: torch.Tensor, parts: Mapping[str, torch.Tensor], indices: torch.Tensor
) -> torch.Tensor:
    """Rows of a matrix, the same as those of what :func:`trained_value` gives.

    :param indices: integers of any shape.
    :return: that shape with one more axis.
    """
    flat, columns = indices.reshape(-1), trained.stored.shape[1]
    chosen = {part: value if part == "adapter_a" else value[flat] for part, value in parts.items()}
    of_rows = trained._replace(stored=trained.stored._replace(shape=(flat.numel(), columns)))
    return trained_value(of_rows, weight[flat], **chosen).reshape(*indices.shape, columns)


def trained_tensor(trained: Trained, weight: torch.Tensor, parts: Mapping[str, torch.Tensor]) -> CompressedTensor:
    """The codes that a weight is rounded to, its scales and its zero points."""
    stored = trained.stored
    with torch.no_grad():
        scale, zero_point = _scales(trained, parts["half_range"], parts.get("low"))
        b, a = _active(trained, parts.get("adapter_b"), parts.get("adapter_a"))
        codes = codes_of(weight, scale, zero_point, b, a, trained.lo, trained.hi, stored.grouped_shape)
    scales = scale.reshape(stored.scale_shape)
    return CompressedTensor(
        format=FORMATS[stored.format],
        shape=stored.shape,
        codes=pack(array_of(codes.to(torch.int8 if trained.lo < 0 else torch.uint8)), stored.bits),
        scale=array_of(scales.to(torch.float16) if trained.half else scales),
        zero_point=None if zero_point is None else array_of(zero_point.reshape(scales.shape).to(torch.uint8)),
        dtype=dtype_name(weight.dtype),
        reduction_axes=stored.reduction_axes,
        group_axis=stored.group_axis,
        group_size=stored.group_size,
    )


def _scales(
    trained: Trained, half_range: torch.Tensor, low: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    bits = trained.stored.bits
    scale = scale_of(half_range, bits, signed=low is None, half=trained.half)
    return scale, None if low is None else zero_point_of(low, scale, bits)


def _active(
    trained: Trained, b: torch.Tensor | None, a: torch.Tensor | None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The matrices of the ranks that take part."""
    if b is None or a is None or trained.active_rank == 0:
        return None, None
    b, a = b.to(torch.float32), a.to(torch.float32)
    if trained.active_rank == trained.rank:
        return b, a
    return b[..., : trained.active_rank], a[..., : trained.active_rank, :]
