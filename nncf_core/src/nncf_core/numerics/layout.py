"""Which elements of a tensor share a scale, brought to one form whatever the axes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd, prod
from typing import NamedTuple

import numpy as np
from attrs import frozen

from nncf_core.errors import InvalidGroupSizeError, ValidationError
from nncf_core.numerics.packing import CODES_PER_WORD


class Piece(NamedTuple):
    """Some whole units, or some rows of one unit: elements that follow each other in memory."""

    first_unit: int
    last_unit: int
    first_row: int
    last_row: int


@frozen
class Layout:
    """A tensor seen as ``(units, length, inner)``, in which each ``[u, :, i]`` shares a scale.

    ``[N, K]`` with scales along the last axis has units N (times the groups of a row) and inner 1; ``[K, N]``
    with scales along axis 0 has inner N, and so on for experts and convolutions. When kept and shared axes
    alternate more than that, ``order`` brings the shared ones to the end first.

    :param scale_shape: shape of the scales in the tensor's own axes; their C order is ``(units, inner)``.
    :param order: permutation of axes after which the view is possible; ``None`` when none is needed.
    """

    shape: tuple[int, ...]
    reduction_axes: tuple[int, ...]
    group_axis: int | None
    group_size: int
    scale_shape: tuple[int, ...]
    units: int
    length: int
    inner: int
    order: tuple[int, ...] | None

    @property
    def unit_size(self) -> int:
        """Elements of a unit."""
        return self.length * self.inner

    @property
    def size(self) -> int:
        """Elements of the tensor."""
        return self.units * self.unit_size

    def view(self, array: np.ndarray) -> np.ndarray:
        """The array as ``(units, length, inner)``; a copy only when its memory is not in that order."""
        if self.order is not None:
            array = array.transpose(self.order)
        return np.ascontiguousarray(array).reshape(self.units, self.length, self.inner)

    def restore(self, view: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`view`: the array in its own shape."""
        if self.order is None:
            return view.reshape(self.shape)
        permuted = view.reshape([self.shape[axis] for axis in self.order])
        return np.ascontiguousarray(permuted.transpose(np.argsort(self.order)))

    def pieces(self, limit: int) -> Iterator[Piece]:
        """Cut the view into pieces of about ``limit`` elements, in order.

        As far as units are small enough, all pieces but the last hold a multiple of eight elements.
        """
        if self.unit_size <= limit:
            step = _step(limit, self.unit_size)
            for first in range(0, self.units, step):
                yield Piece(first, min(first + step, self.units), 0, self.length)
            return
        step = _step(limit, self.inner)
        for unit in range(self.units):
            for first in range(0, self.length, step):
                yield Piece(unit, unit + 1, first, min(first + step, self.length))

    def count(self, piece: Piece) -> int:
        """Elements of a piece."""
        return (piece.last_unit - piece.first_unit) * (piece.last_row - piece.first_row) * self.inner

    def start(self, piece: Piece) -> int:
        """Index, in the view, of a piece's first element."""
        return piece.first_unit * self.unit_size + piece.first_row * self.inner


def _step(limit: int, size: int) -> int:
    """How many things of ``size`` elements make about ``limit`` elements, if possible a multiple of eight."""
    aligned = CODES_PER_WORD // gcd(size, CODES_PER_WORD)
    return limit // size // aligned * aligned or max(limit // size, 1)


def layout_of(
    shape: Sequence[int],
    reduction_axes: Sequence[int] | int,
    group_axis: int | None = None,
    group_size: int = -1,
    name: str = "",
) -> Layout:
    """The layout of a tensor.

    :param shape: shape of the tensor.
    :param reduction_axes: axes along which a scale is shared; negative ones count from the end.
    :param group_axis: the axis that is divided into groups; by default the only reduction axis.
    :param group_size: elements along it that share a scale; ``-1``: it is not divided.
    :param name: what the tensor is called in errors.
    :raises ValidationError: for axes that the tensor does not have, or more than one with groups; for a
        tensor without elements.
    :raises InvalidGroupSizeError: when groups of this size do not fill the axis.
    """
    shape = tuple(int(n) for n in shape)
    title = f"Tensor {name!r}" if name else "The tensor"
    if prod(shape) == 0 or not shape:
        raise ValidationError(f"{title} of shape {list(shape)} has no elements along an axis to compress.")
    given = [reduction_axes] if isinstance(reduction_axes, int | np.integer) else list(reduction_axes)
    axes = tuple(sorted({_axis(axis, shape, title) for axis in given}))
    if not axes:
        raise ValidationError(f"{title}: reduction_axes is empty; name the axes that share a scale.")
    if group_size != -1:
        return _grouped(shape, axes, group_axis, group_size, title)
    if group_axis is not None:
        _axis(group_axis, shape, title)
    order, (units, length, inner) = _three_axes(shape, axes)
    scale_shape = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    return Layout(shape, axes, None, -1, scale_shape, units, length, inner, order)


def _grouped(
    shape: tuple[int, ...], axes: tuple[int, ...], group_axis: int | None, group_size: int, title: str
) -> Layout:
    axis = axes[0] if group_axis is None else _axis(group_axis, shape, title)
    if axes != (axis,):
        raise ValidationError(
            f"{title}: groups need one reduction axis, the one that is divided; reduction_axes is "
            f"{list(axes)}, group_axis is {group_axis}."
        )
    channels = shape[axis]
    if group_size < 1 or channels % group_size:
        divisors = ", ".join(str(n) for n in range(2, channels + 1) if channels % n == 0) or "1"
        raise InvalidGroupSizeError(
            f"{title} of shape {list(shape)} has {channels} channels along axis {axis}, which groups of "
            f"{group_size} do not fill. Group sizes that would work: {divisors}; -1 for no groups."
        )
    groups = channels // group_size
    scale_shape = (*shape[:axis], groups, *shape[axis + 1 :])
    units, inner = prod(shape[:axis]) * groups, prod(shape[axis + 1 :])
    return Layout(shape, axes, axis, group_size, scale_shape, units, group_size, inner, None)


def _three_axes(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[tuple[int, ...] | None, tuple[int, int, int]]:
    """``units, length, inner``, and the permutation that is needed first, if any."""
    wide = [axis for axis in axes if shape[axis] > 1] or [axes[0]]
    first, last = wide[0], wide[-1] + 1
    if all(axis in axes or shape[axis] == 1 for axis in range(first, last)):
        return None, (prod(shape[:first]), prod(shape[first:last]), prod(shape[last:]))
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    order = (*kept, *axes)
    return order, (prod(shape[axis] for axis in kept), prod(shape[axis] for axis in axes), 1)


def _axis(axis: int, shape: tuple[int, ...], title: str) -> int:
    if not -len(shape) <= axis < len(shape):
        raise ValidationError(f"{title} of shape {list(shape)} has no axis {axis}.")
    return axis % len(shape)
