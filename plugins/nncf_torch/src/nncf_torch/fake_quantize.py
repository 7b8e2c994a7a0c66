"""Rounding to the integers, or 8-bit floats, of a quantizer and back: to train with, and as converters know it."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function

from nncf_core.numerics.quantizer import EPS

_WHOLE = {(-128, 127), (0, 255)}
"""Ranges of integers that converters know."""

FLOAT8 = {"f8e4m3": torch.float8_e4m3fn, "f8e5m2": torch.float8_e5m2}
"""Element types by the name of their number format."""


def fake_quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    lo: int,
    hi: int,
    axis: int | None = None,
    float8: str | None = None,
    samples: int = 1,
) -> torch.Tensor:
    """What a tensor becomes, ``(clip(round(x / scale + zero_point), lo, hi) - zero_point) · scale``, in its own type.

    Gradients go straight through to ``x`` where nothing is clipped, which shows before rounding: at the ends of the
    range and beyond, ``x`` gets none. Where ``scale`` is trained, it and ``zero_point`` get theirs as in LSQ (Esser et
    al. 2020, https://arxiv.org/abs/1902.08153, equations 2 and 3 with the factor of section 2.2) and LSQ+ (Bhalgat et
    al. 2020, https://arxiv.org/abs/2004.09576). What lies at an end itself, as zeros behind a ReLU, leaves zero points
    where they are: moved inward, they do not change it. 8-bit floats have no zero point.
    That factor counts the weights, or the *features* of one sample, that share a scale: with elements of a whole batch
    steps would depend on how many samples it holds, and on how many processes share them.

    :param scale: of shape ``[1]``, or ``[channels]`` with an ``axis``; of its sign nothing is used.
    :param zero_point: numbers of the same shape; they are rounded.
    :param lo: smallest integer, or float.
    :param hi: largest integer, or float.
    :param float8: number format, of :data:`FLOAT8`; ``None`` for integers.
    :param samples: how many samples the tensor holds.
    """
    if has_torch_function((x, scale)):
        # one call for those who watch torch functions
        result: torch.Tensor = handle_torch_function(
            fake_quantize, (x, scale), x, scale, zero_point, lo, hi, axis, float8, samples
        )
        return result
    wide = x if x.dtype is torch.float32 else x.to(torch.float32)
    if scale.dtype is not torch.float32:
        # .half() of a model means its parameters, too
        scale, zero_point = scale.to(torch.float32), zero_point.to(torch.float32)
    exported = torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None
    if float8 is not None:
        rounded = _floating(wide, scale.abs().clamp_min(float(EPS)), lo, hi, axis, float8, exported, samples)
    elif torch.is_grad_enabled() and (scale.requires_grad or wide.requires_grad) and not exported:
        positive = scale.abs().clamp_min(float(EPS))
        factor = _factor(wide, scale, samples, hi) if scale.requires_grad else 1.0
        rounded = _StraightThrough.apply(wide, positive, zero_point, lo, hi, axis, factor)  # type: ignore[no-untyped-call]
    else:
        scale = scale.detach().abs().clamp_min(float(EPS))
        zero_point = zero_point.detach().round().clamp(lo, hi)
        if exported and (lo, hi) not in _WHOLE:
            wide = clipped(wide, scale, zero_point, lo, hi, axis)
            lo, hi = (-128, 127) if lo < 0 else (0, 255)
        rounded = rounded_to(wide, scale, zero_point.to(torch.int32), lo, hi, axis)
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


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(
        x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, lo: int, hi: int, axis: int | None, _: float
    ) -> torch.Tensor:
        return rounded_to(x, scale, zero_point.round().clamp(lo, hi).to(torch.int32), lo, hi, axis)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.fixed = inputs[3:]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, zero_point = ctx.saved_tensors
        lo, hi, axis, factor = ctx.fixed
        shape = scale.shape
        scale, zero_point = along(scale, x.dim(), axis), along(zero_point.round().clamp(lo, hi), x.dim(), axis)
        low, high = lo - zero_point, hi - zero_point
        # multiplied by the reciprocal, as the forward pass does
        ratio = x * scale.reciprocal()
        inside = (ratio > low) & (ratio < high)
        to_x, to_scale, to_zero_point, *_ = ctx.needs_input_grad
        of_scale = of_zero_point = None
        if to_scale:
            # equation 3 of LSQ: the error of rounding, or the number at the end of the range. The error is a small
            # difference of large numbers, and of a sum of errors most cancels: both in doubles, where there are any
            wide = x.dtype if x.device.type == "mps" else torch.float64
            exact = torch.where(inside, x, 0).to(wide) / scale.to(wide)
            error = (ratio.round().clamp(low, high) - exact).mul_(gradient)
            of_scale = (error.sum_to_size(scale.shape) * factor).reshape(shape).to(scale.dtype)
        if to_zero_point:
            beyond = torch.where((ratio < low) | (ratio > high), gradient, 0).sum_to_size(scale.shape)
            of_zero_point = (-beyond * scale).reshape(shape) * factor
        of_x = torch.where(inside, gradient, 0) if to_x else None
        return of_x, of_scale, of_zero_point, None, None, None, None


def _factor(x: torch.Tensor, scale: torch.Tensor, samples: int, hi: int) -> float:
    """What gradients of scales are multiplied by: as many values of a sample as share one (LSQ, section 2.2)."""
    return 1 / sqrt(max(x.numel() // (scale.numel() * samples), 1) * hi)


def rounded_to_float8(x: torch.Tensor, scale: torch.Tensor, lo: int, hi: int, float8: str) -> torch.Tensor:
    """The steps that converters know; casts of what is out of range would give NaN or infinity.

    :param scale: it broadcasts against ``x``.
    """
    return (x / scale).clamp(lo, hi).to(FLOAT8[float8]).to(torch.float32) * scale


def along(scale: torch.Tensor, rank: int, axis: int | None) -> torch.Tensor:
    """Scales so that they broadcast against a tensor."""
    return scale if axis is None else scale.reshape([-1 if index == axis % rank else 1 for index in range(rank)])


def _floating(
    x: torch.Tensor,
    scale: torch.Tensor,
    lo: int,
    hi: int,
    axis: int | None,
    float8: str,
    exported: bool,
    samples: int,
) -> torch.Tensor:
    if exported or not (torch.is_grad_enabled() and (scale.requires_grad or x.requires_grad)):
        return rounded_to_float8(x, along(scale.detach(), x.dim(), axis), lo, hi, float8)
    scale = along(scale.detach() + (scale - scale.detach()) * _factor(x, scale, samples, hi), x.dim(), axis)
    cut = (x / scale).clamp(lo, hi)
    # the difference is exact
    return (cut + (cut.detach().to(FLOAT8[float8]).to(torch.float32) - cut.detach())) * scale


def clipped(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, lo: int, hi: int, axis: int | None
) -> torch.Tensor:
    """Values within the range of some integers of 8 bits, so that rounding to all of them gives no others."""
    scale, zero_point = along(scale, x.dim(), axis), along(zero_point, x.dim(), axis)
    return torch.minimum(torch.maximum(x, (lo - zero_point) * scale), (hi - zero_point) * scale)


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
