"""Rounding to the integers of a quantizer and back, in a form that trains and in one that converters know."""

from __future__ import annotations

from math import sqrt

import torch
from torch.overrides import handle_torch_function, has_torch_function

from nncf_core.numerics.quantizer import EPS

_WHOLE = {(-128, 127), (0, 255)}
"""Ranges of integers that converters know."""


def fake_quantize(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, lo: int, hi: int, axis: int | None = None
) -> torch.Tensor:
    """What a tensor becomes, ``(clip(round(x / scale + zero_point), lo, hi) - zero_point) · scale``, in its own type.

    Gradients go straight through to ``x`` where nothing is clipped. Where ``scale`` is trained, it and ``zero_point``
    get theirs as in LSQ (Esser et al. 2020, https://arxiv.org/abs/1902.08153, equations 2 and 3 with the factor of
    section 2.2) and LSQ+ (Bhalgat et al. 2020, https://arxiv.org/abs/2004.09576).

    :param scale: of shape ``[1]``, or ``[channels]`` with an ``axis``; of its sign nothing is used.
    :param zero_point: numbers of the same shape; they are rounded.
    :param lo: smallest integer.
    :param hi: largest integer.
    """
    if has_torch_function((x, scale)):
        # one call for those who watch torch functions
        result: torch.Tensor = handle_torch_function(fake_quantize, (x, scale), x, scale, zero_point, lo, hi, axis)
        return result
    wide = x if x.dtype is torch.float32 else x.to(torch.float32)
    if scale.dtype is not torch.float32:
        # .half() of a model means its parameters, too
        scale, zero_point = scale.to(torch.float32), zero_point.to(torch.float32)
    exported = torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None
    if torch.is_grad_enabled() and scale.requires_grad and not exported:
        rounded = _trained(wide, scale.abs().clamp_min(float(EPS)), zero_point, lo, hi, axis)
    else:
        scale = scale.detach().abs().clamp_min(float(EPS))
        if exported and (lo, hi) not in _WHOLE:
            wide, lo, hi = _clipped(wide, scale, lo, hi, axis), -128, 127
        rounded = rounded_to(wide, scale, zero_point.detach().round().clamp(lo, hi).to(torch.int32), lo, hi, axis)
    return rounded if x.dtype is torch.float32 else rounded.to(x.dtype)


def rounded_to(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, lo: int, hi: int, axis: int | None
) -> torch.Tensor:
    """The operator that converters know.

    :param zero_point: int32.
    """
    if axis is None:
        return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, lo, hi)
    return torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis, lo, hi)


def _trained(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, lo: int, hi: int, axis: int | None
) -> torch.Tensor:
    # as many values as share a scale
    factor = 1 / sqrt(max(x.numel() // scale.numel(), 1) * hi)
    result: torch.Tensor
    if axis is None:
        result = torch._fake_quantize_learnable_per_tensor_affine(x, scale, zero_point, lo, hi, factor)
    else:
        result = torch._fake_quantize_learnable_per_channel_affine(x, scale, zero_point, axis, lo, hi, factor)
    return result


def _clipped(x: torch.Tensor, scale: torch.Tensor, lo: int, hi: int, axis: int | None) -> torch.Tensor:
    """Values within a symmetric range of integers without a zero point, so that all integers may follow."""
    if axis is not None:
        shape = [1] * x.dim()
        shape[axis] = -1
        scale = scale.reshape(shape)
    return torch.minimum(torch.maximum(x, lo * scale), hi * scale)


def _shapes_of(x: torch.Tensor, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


# without these torch.export takes no dynamic shapes; they are missing in torch 2.13
_META = torch.library.Library("aten", "IMPL", "Meta")  # type: ignore[no-untyped-call]
for _name in (
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "fake_quantize_per_channel_affine_cachemask",
):
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{_name}", "Meta"):
        _META.impl(_name, _shapes_of)  # type: ignore[no-untyped-call]
