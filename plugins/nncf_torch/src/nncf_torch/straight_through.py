"""Rounding of weights to low-bit integers and back, to train with.

A weight ``W``, with or without a product ``B·A`` of two matrices of low rank, becomes

    Ŵ = (clip(round((W + B·A) / s + z), lo, hi) - z) · s

in float32, in groups that share a scale ``s`` and a zero point ``z``. What is trained of a group are ends of its
range in units of the weight: ``half_range``, half of the width, ``s · 2^(bits - 1)``, and of formats with zero points
``low``, the number that code 0 stands for, ``-z · s``. An optimizer such as Adam, whose steps have about the size of
the learning rate, so moves both at the pace of weights and adapters; zero points as such, which count codes, it would
hardly move. Multiplying by a power of two is exact, so that the first codes are those that the range was made from.

Scales are rounded to float16 where that is how they will be stored, and zero points to integers. So training sees what
will be stored, bit for bit. Gradients go straight through all three roundings (Bengio et al. 2013,
https://arxiv.org/abs/1308.3432) where nothing is clipped, which shows before rounding: ``lo < (W + B·A) / s + z < hi``.
They reach ``s`` and ``z`` as in LSQ (Esser et al. 2020, https://arxiv.org/abs/1902.08153, equations 2 and 3) and LSQ+
(https://arxiv.org/abs/2004.09576), without the factor by which LSQ makes gradients smaller: optimizers that divide by
their size undo it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.autograd.function import once_differentiable

from nncf_core.numerics.scales import EPS

_LARGEST_HALF = 65504.0
_PIECE = 2**18
"""Elements that are worked on at a time by each thread: a few times 1 MB."""

_Optional: TypeAlias = torch.Tensor | None


def scale_of(half_range: torch.Tensor, bits: int, *, signed: bool, half: bool) -> torch.Tensor:
    """Scales of groups, float32, of the same shape.

    :param half_range: half of the width of the range. In formats without zero points its sign is that of the scale.
    :param signed: whether a sign counts.
    :param half: whether scales are rounded to float16.
    """
    scale = half_range.to(torch.float32) / 2 ** (bits - 1)
    scale = scale if signed else scale.abs()
    # none is zero: values are divided by them
    floor = torch.where(scale < 0, -float(EPS), float(EPS))
    scale = torch.where(scale.abs() < float(EPS), floor, scale)
    return _straight(scale, rounded_to_half(scale.detach())) if half else scale


def rounded_to_half(x: torch.Tensor) -> torch.Tensor:
    """The nearest numbers of float16, as float32; beyond its range the largest."""
    x = x.clamp(-_LARGEST_HALF, _LARGEST_HALF)
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return x.to(torch.float16).to(torch.float32)
    # TorchInductor leaves out a cast that is taken back: halves of the 11th bit go to the even one; below the smallest
    # exponent the steps stay as wide as there
    bits = x.view(torch.int32)
    normal = ((bits + 0xFFF + ((bits >> 13) & 1)) & -0x2000).view(torch.float32)
    return torch.where(x.abs() < 2.0**-14, (x * 2.0**24).round() / 2.0**24, normal)


def zero_point_of(low: torch.Tensor, scale: torch.Tensor, bits: int) -> torch.Tensor:
    """Zero points of groups, float32 integers, of the same shape.

    Those that are no codes become the nearest code; gradients that would bring them back reach them still.

    :param low: what code 0 stands for.
    """
    exact, top = -low.to(torch.float32) / scale, 2**bits - 1
    if exact.requires_grad and torch.is_grad_enabled() and not _is_plain():
        found: torch.Tensor = _ZeroPoint.apply(exact, top)  # type: ignore[no-untyped-call]
        return found
    return exact.clamp(0, top).round()


class Rounded(NamedTuple):
    """A weight, and all that it is rounded with; a tuple, which autograd takes apart.

    :param weight: of any floating-point type.
    :param scale: float32, it broadcasts against ``grouped_shape``.
    :param zero_point: of the same shape; ``None`` where there is none.
    :param b: ``[…, rows, rank]``, float32; ``None`` where nothing is added.
    :param a: ``[…, rank, columns]``.
    :param lo: smallest code.
    :param hi: largest code.
    :param grouped_shape: of the weight, with an axis of its own for the elements of a group.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    zero_point: _Optional
    b: _Optional
    a: _Optional
    lo: int
    hi: int
    grouped_shape: tuple[int, ...]

    @property
    def tensors(self) -> tuple[_Optional, ...]:
        """What gradients may reach."""
        return self[:5]

    def value(self) -> torch.Tensor:
        """``Ŵ`` in float32, of the shape of the weight.

        The backward pass computes anew what it needs, so that nothing of a weight's size is kept for it but the weight.
        """
        trained = any(tensor is not None and tensor.requires_grad for tensor in self.tensors)
        if trained and torch.is_grad_enabled() and not _is_plain():
            result: torch.Tensor = _StraightThrough.apply(*self)  # type: ignore[no-untyped-call]
            return result
        return self.plain_value()

    def plain_value(self) -> torch.Tensor:
        """The same, without gradients of its own."""
        if _is_plain():
            values = self.codes() if self.zero_point is None else self.codes() - self.zero_point
            return (values * self.scale).reshape(self.weight.shape)
        # in place: no gradients go through these steps themselves
        total = self._total()
        for part in self._pieces():
            values = self._scale(total[part], part).round_().clamp_(self.lo, self.hi)
            if self.zero_point is not None:
                values.sub_(self.zero_point[part])
            values.mul_(self.scale[part])
        return total.reshape(self.weight.shape)

    def codes(self) -> torch.Tensor:
        """The codes, float32 integers of the grouped shape."""
        # divided, not multiplied by the reciprocal: as the numerics do
        scaled = self._total() / self.scale
        scaled = scaled if self.zero_point is None else scaled + self.zero_point
        return scaled.round().clamp(self.lo, self.hi)

    def gradients(self, gradient: torch.Tensor, to_zero_point: bool) -> tuple[torch.Tensor, torch.Tensor, _Optional]:
        """Gradients of ``W + B·A``, of the scale, and of the zero point.

        :param gradient: of ``Ŵ``.
        :param to_zero_point: whether the last one is needed.
        """
        total = self._total()
        gradient = gradient.reshape(self.grouped_shape)
        to_scale, to_zero = [], []
        for part in self._pieces():
            scale, upstream, ratio = self.scale[part], gradient[part].to(torch.float32), total[part]
            ratio.div_(scale)
            zero_point = None if self.zero_point is None else self.zero_point[part]
            exact = ratio if zero_point is None else ratio + zero_point
            # 1 where nothing is clipped, else 0: arithmetic is ten times as fast as masks
            inside = torch.gt(exact, self.lo, out=torch.empty_like(exact))
            inside.mul_(torch.lt(exact, self.hi, out=torch.empty_like(exact)))
            # equation 3 of LSQ: the error of rounding, or the code at the end of the range
            codes = exact.round().clamp_(self.lo, self.hi)
            error = codes if zero_point is None else codes.sub_(zero_point)
            error.sub_(ratio.mul_(inside)).mul_(upstream)
            to_scale.append(error.sum_to_size(scale.shape))
            # the gradient of the sum takes its place
            torch.mul(upstream, inside, out=ratio)
            if to_zero_point:
                # z · s is taken from all values, and put back by the code where that follows
                to_zero.append((upstream - ratio).sum_to_size(scale.shape).mul_(scale).neg_())
        return total.reshape(self.weight.shape), torch.cat(to_scale), torch.cat(to_zero) if to_zero else None

    def _total(self) -> torch.Tensor:
        """``W + B·A`` in float32, of the grouped shape; a new tensor."""
        if self.b is None or self.a is None:
            return self.weight.to(torch.float32, copy=not _is_plain()).reshape(self.grouped_shape)
        product, weight = _product(self.b, self.a), self.weight.to(torch.float32)
        return (product + weight if _is_plain() else product.add_(weight)).reshape(self.grouped_shape)

    def _scale(self, total: torch.Tensor, part: slice) -> torch.Tensor:
        """What is rounded to codes, in place."""
        scaled = total.div_(self.scale[part])
        return scaled if self.zero_point is None else scaled.add_(self.zero_point[part])

    def _pieces(self) -> Iterator[slice]:
        """Parts of the first axis of the grouped shape.

        On a CPU they are small, so that what is computed of one stays in the cores' caches from step to step. A
        compiler sees one.
        """
        rows, size = self.scale.shape[0] if self.scale.dim() else 1, self.weight.numel()
        whole = torch.compiler.is_compiling() or self.weight.device.type != "cpu" or size == 0
        step = rows if whole else max(_PIECE * torch.get_num_threads() * rows // size, 1)
        if step >= rows:
            yield slice(None)
            return
        for start in range(0, rows, step):
            yield slice(start, start + step)


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The product of two matrices in float32, whatever autocast is for."""
    device = left.device.type
    if not torch.is_autocast_enabled(device):
        return left @ right
    with torch.autocast(device, enabled=False):
        return left @ right


def _is_plain() -> bool:
    """Whether only operators that converters know may take part."""
    return torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None


def _straight(exact: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """Rounded numbers that pass on their gradient to the exact ones; the difference is exact."""
    return exact + (rounded - exact.detach())


class _ZeroPoint(torch.autograd.Function):
    @staticmethod
    def forward(exact: torch.Tensor, top: int) -> torch.Tensor:
        return exact.clamp(0, top).round()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.top = inputs[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (exact,) = ctx.saved_tensors
        # a step goes against the gradient
        away = ((exact < 0) & (gradient > 0)) | ((exact > ctx.top) & (gradient < 0))
        return torch.where(away, 0, gradient), None


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(*inputs: Any) -> torch.Tensor:
        return Rounded(*inputs).plain_value()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        rounded = Rounded(*inputs)
        ctx.save_for_backward(*rounded.tensors)
        ctx.fixed = inputs[len(rounded.tensors) :]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[_Optional, ...]:
        rounded = Rounded(*ctx.saved_tensors, *ctx.fixed)
        weight, b, a = rounded.weight, rounded.b, rounded.a
        to_weight, to_scale, to_zero_point, to_b, to_a, *_ = ctx.needs_input_grad
        through, of_scale, of_zero_point = rounded.gradients(gradient, to_zero_point)
        return (
            through.to(weight.dtype) if to_weight else None,
            of_scale if to_scale else None,
            of_zero_point,
            _product(through, a.transpose(-1, -2)) if to_b and a is not None else None,
            _product(b.transpose(-1, -2), through) if to_a and b is not None else None,
            *(None for _ in ctx.fixed),
        )
