"""Weights that are stored as floating-point numbers, and rounded to 2 to 8 bits whenever a quantized module runs.

The parameter keeps its name and its values but for ties (:mod:`nncf_torch.ties`), so that it can be trained. Scale and
zero point ``weight_scale`` and ``weight_zero_point`` lie beside it; they are parameters, too, but for zero points that
are 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from attrs import evolve, frozen
from torch import nn

from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.quantizer import EPS, FLOAT8, Quantizer
from nncf_core.numerics.tensor import CompressedTensor
from nncf_torch.attributes import check_free
from nncf_torch.fake_quantize import fake_quantize
from nncf_torch.tensors import array_of, dtype_name, tensor_of

_WEIGHTS = "_rounded_weights"
"""Attribute of a module: :class:`Rounding` by name of the weight."""

_SCALE, _ZERO_POINT = "scale", "zero_point"


@frozen
class Rounding:
    """Which integers, or 8-bit floats, a weight is rounded to.

    :param lo: the smallest.
    :param hi: the largest.
    :param axis: axis that the scales lie along; ``None`` when there is one scale.
    :param float8: number format of floats; ``None`` for integers.
    :param active: whether it is rounded, or left as it is for the time being.
    """

    lo: int
    hi: int
    axis: int | None
    float8: str | None = None
    active: bool = True

    @property
    def format(self) -> str:
        """Name of the number format."""
        return self.float8 or ("int8" if self.lo < 0 else "uint8")


def roundings_of(module: nn.Module) -> Mapping[str, Rounding]:
    """The rounded weights that a module itself holds, by name."""
    found: Mapping[str, Rounding] = module.__dict__.get(_WEIGHTS, {})
    return found


def quantizer_of(tensor: CompressedTensor, integers: tuple[int, int] | None = None) -> Quantizer | None:
    """The quantizer that gives a tensor's codes; ``None`` for formats other than those of 8 bits, and for scales
    below zero, which some symmetric schemes have.

    :param integers: the smallest and the largest code; ``None``: as the codes say.
    """
    if (
        tensor.format.name not in ("int8", "uint8", *FLOAT8)
        or tensor.group_axis is not None
        or tensor.global_scale is not None
    ):
        return None
    tensor = tensor.on_host()
    if (tensor.scale.astype(np.float32) < 0).any():
        return None
    axes = [axis for axis, n in enumerate(tensor.scale.shape) if n > 1]
    if len(axes) > 1:
        return None
    shape = () if not axes else (-1,)
    zeros = np.zeros(tensor.scale.shape) if tensor.zero_point is None else tensor.zero_point
    lo, hi, float8 = 0, 255, tensor.format.name if tensor.format.name in FLOAT8 else None
    if float8 is not None:
        hi = int(tensor.format.max_value)
        lo = -hi
    elif integers is not None:
        lo, hi = integers
    elif tensor.format.name == "int8":
        # half of the range, or a range without its smallest integer, shows in the largest code
        codes = tensor.codes.view(np.int8)
        largest = int(np.abs(codes.astype(np.int16)).max(initial=0)) or 127
        lo, hi = -largest, min(largest, 127)
    scale = np.maximum(tensor.scale.astype(np.float32), EPS)
    return Quantizer(scale.reshape(shape), zeros.reshape(shape), lo, hi, axes[0] if axes else None, float8)


def quantizer_from(
    scale: torch.Tensor, zero_point: torch.Tensor, lo: int, hi: int, axis: int | None, float8: str | None
) -> Quantizer:
    """The quantizer of a scale and a zero point as :func:`~nncf_torch.fake_quantize.fake_quantize` takes them: of the
    scale no sign, of the zero point no fraction."""
    along: tuple[int, ...] = () if axis is None else (-1,)
    scales = np.maximum(np.abs(array_of(scale.detach()).astype(np.float32)), EPS)
    zeros = np.clip(np.rint(array_of(zero_point.detach())), lo, hi)
    return Quantizer(scales.reshape(along), zeros.reshape(along), lo, hi, axis, float8)


def codes_of(
    weight: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, rounding: Rounding
) -> CompressedTensor:
    """The codes that a weight is rounded to."""
    array = array_of(weight)
    lo, axis = rounding.lo, rounding.axis
    quantizer = quantizer_from(scale, zero_point, lo, rounding.hi, axis, rounding.float8)
    shape = tuple(array.shape[axis] if index == axis else 1 for index in range(array.ndim))
    codes = quantizer.encode(array)
    return CompressedTensor(
        format=FORMATS[rounding.format],
        shape=array.shape,
        codes=(codes if rounding.float8 else codes.astype(rounding.format)).view(np.uint8).reshape(-1),
        scale=quantizer.scale.reshape(shape),
        zero_point=quantizer.zero_point.astype(np.uint8).reshape(shape) if lo == 0 else None,
        dtype=dtype_name(weight.dtype),
        reduction_axes=tuple(index for index in range(array.ndim) if index != axis),
    )


def tensors_of(quantizer: Quantizer, device: torch.device) -> tuple[nn.Parameter, torch.Tensor]:
    """Scale and zero point of a quantizer as they are kept: float32, one dimension; zero points that are 0 are no
    parameters."""
    scale = nn.Parameter(tensor_of(quantizer.scale.reshape(-1).copy()).to(device))
    zero_point = tensor_of(quantizer.zero_point.reshape(-1).astype(np.float32)).to(device)
    return scale, nn.Parameter(zero_point) if quantizer.zero_point.any() else zero_point


def hold(module: nn.Module, name: str, scale: nn.Parameter, zero_point: torch.Tensor) -> None:
    """Let a module hold scale and zero point under a name."""
    module.register_parameter(f"{name}_{_SCALE}", scale)
    if isinstance(zero_point, nn.Parameter):
        module.register_parameter(f"{name}_{_ZERO_POINT}", zero_point)
    else:
        module.register_buffer(f"{name}_{_ZERO_POINT}", zero_point, persistent=False)


def held(module: nn.Module, name: str) -> tuple[nn.Parameter, torch.Tensor]:
    """Scale and zero point that a module holds under a name."""
    return getattr(module, f"{name}_{_SCALE}"), getattr(module, f"{name}_{_ZERO_POINT}")


def put_rounding(
    module: nn.Module, name: str, rounding: Rounding, scale: nn.Parameter, zero_point: torch.Tensor
) -> None:
    """Let a weight be rounded from now on."""
    drop_rounding(module, name)
    check_free(module, name, (f"{name}_{part}" for part in (_SCALE, _ZERO_POINT)))
    module.__dict__[_WEIGHTS] = {**roundings_of(module), name: rounding}
    hold(module, name, scale, zero_point)


def put_active(module: nn.Module, name: str, active: bool) -> None:
    """Let a weight be rounded, or left as it is for the time being."""
    found = roundings_of(module)
    module.__dict__[_WEIGHTS] = {**found, name: evolve(found[name], active=active)}


def drop_rounding(module: nn.Module, name: str) -> None:
    """Let a weight be what it is stored as."""
    if name not in roundings_of(module):
        return
    module.__dict__[_WEIGHTS] = {key: found for key, found in roundings_of(module).items() if key != name}
    for part in (_SCALE, _ZERO_POINT):
        delattr(module, f"{name}_{part}")


def parts_of_roundings(module: nn.Module) -> set[str]:
    """Names of the scales and zero points of a module's rounded weights."""
    return {f"{name}_{part}" for name in roundings_of(module) for part in (_SCALE, _ZERO_POINT)}


def rounded(module: nn.Module, name: str) -> torch.Tensor:
    """The weight as the operators get it."""
    r = roundings_of(module)[name]
    if not r.active:
        weight: torch.Tensor = getattr(module, name)
        return weight
    return fake_quantize(getattr(module, name), *held(module, name), r.lo, r.hi, r.axis, r.float8)
