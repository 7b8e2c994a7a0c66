"""A compressed weight as matrices: [batch, outputs, inputs], with scales [batch, outputs, groups]."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from attrs import evolve, field, frozen

from nncf_core.errors import ValidationError
from nncf_core.graph import WeightLayout
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.numerics.work import spread
from nncf_weight_refinement.lattice import Lattice

_OUTPUTS = 1024
"""Outputs that are worth a call of their own, whose steps in Python do not depend on their number."""


@frozen
class Axes:
    """How the axes of a tensor become those of matrices.

    :param shape: shape of the tensor.
    :param batch: axes of independent matrices, in the tensor's order, as all below.
    :param outputs: axes that remain.
    :param inputs: axes that are summed over.
    """

    shape: tuple[int, ...]
    batch: tuple[int, ...]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], layout: WeightLayout) -> Axes:
        """The axes of a constant. Those that the layout does not name count as outputs.

        :raises ValidationError: when nothing is summed over.
        """
        batch, inputs = tuple(sorted(layout.batch_axes)), tuple(sorted(layout.reduction_axes))
        if not inputs:
            raise ValidationError(f"A weight of shape {list(shape)} has no reduction axes; nothing is summed over.")
        outputs = tuple(axis for axis in range(len(shape)) if axis not in (*batch, *inputs))
        return cls(tuple(shape), batch, outputs, inputs)

    @property
    def order(self) -> tuple[int, ...]:
        """The tensor's axes in the order of the matrices'."""
        return (*self.batch, *self.outputs, *self.inputs)

    @property
    def rows(self) -> int:
        """How many outputs there are."""
        return prod(self.shape[axis] for axis in self.outputs)

    def matrices(self, array: np.ndarray) -> np.ndarray:
        """An array of the tensor, or of its scales, as [batch, outputs, inputs or groups]; contiguous."""
        sizes = [prod(array.shape[axis] for axis in axes) for axes in (self.batch, self.outputs, self.inputs)]
        return np.ascontiguousarray(array.transpose(self.order)).reshape(sizes)

    def restore(self, matrices: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The inverse of :meth:`matrices`; contiguous.

        :param shape: of the result, by default that of the tensor.
        """
        shape = self.shape if shape is None else shape
        permuted = matrices.reshape([shape[axis] for axis in self.order])
        return np.ascontiguousarray(permuted.transpose(np.argsort(self.order)))


@frozen
class Grouped:
    """A compressed weight, unpacked: ``ŵ = (level - zero_point) · scale``.

    :param lattice: which levels and scales there are.
    :param levels: float32, [batch, outputs, inputs].
    :param scale: storable ones, the global scale contained, float32, [batch, outputs, groups]. Groups are consecutive
        inputs of equal number.
    :param zero_point: float32 integers of the same shape; ``None`` where there are none.
    """

    lattice: Lattice
    levels: np.ndarray = field(eq=False, repr=False)
    scale: np.ndarray = field(eq=False, repr=False)
    zero_point: np.ndarray | None = field(eq=False, repr=False)

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return int(self.levels.shape[2] // self.scale.shape[2])

    @property
    def offsets(self) -> np.ndarray:
        """``level - zero_point``, float32, [batch, outputs, inputs]."""
        if self.zero_point is None:
            return self.levels
        offsets: np.ndarray = self.levels - self.each(self.zero_point)
        return offsets

    def values(self) -> np.ndarray:
        """What the weight is, float32, [batch, outputs, inputs]."""
        out: np.ndarray = self.offsets * self.each(self.scale)
        return out

    def each(self, of_groups: np.ndarray) -> np.ndarray:
        """What is one number for each group, for each input."""
        return np.repeat(of_groups, self.group_size, axis=2)

    def of_outputs(self, part: slice) -> Grouped:
        """The weight of some outputs."""
        zero_point = None if self.zero_point is None else self.zero_point[:, part]
        return evolve(self, levels=self.levels[:, part], scale=self.scale[:, part], zero_point=zero_point)

    def rounded(self, target: np.ndarray) -> Grouped:
        """The levels nearest to a target [batch, outputs, inputs] under these scales."""
        scaled = target / self.each(self.scale)
        if self.zero_point is not None:
            scaled += self.each(self.zero_point)
        return evolve(self, levels=self.lattice.nearest(scaled, out=scaled))


def by_outputs(
    executor: Executor | None,
    function: Callable[..., Grouped],
    target: np.ndarray,
    start: Grouped,
    *shared: Any,
) -> Grouped:
    """What a function gives that does the same to each output, in parts that do not depend on the executor.

    :param function: called with a part of the target, of ``start``, and what is shared.
    """
    rows = target.shape[1]
    count = max(-(-rows // _OUTPUTS), 1)
    if count == 1:
        return function(target, start, *shared)
    edges = [rows * index // count for index in range(count + 1)]
    parts = [slice(*pair) for pair in pairwise(edges)]
    calls = [(target[:, part], start.of_outputs(part), *shared) for part in parts]
    found = [result for _, result in sorted(spread(executor, function, calls), key=lambda pair: pair[0])]
    points = [part.zero_point for part in found if part.zero_point is not None]
    return evolve(
        start,
        levels=np.concatenate([part.levels for part in found], axis=1),
        scale=np.concatenate([part.scale for part in found], axis=1),
        zero_point=np.concatenate(points, axis=1) if points else None,
    )


def grouped(tensor: CompressedTensor, axes: Axes) -> Grouped:
    """A compressed tensor as matrices.

    :raises ValidationError: when its groups do not lie along the inputs.
    """
    _check(tensor, axes)
    lattice = Lattice.of(tensor)
    codes = unpack(tensor.codes, tensor.format.bits, tensor.size, tensor.format.signed).reshape(tensor.shape)
    scale = tensor.scale.astype(np.float32) * lattice.global_scale
    zero_point = None if tensor.zero_point is None else axes.matrices(tensor.zero_point.astype(np.float32))
    return Grouped(lattice, lattice.decoded(axes.matrices(codes)), axes.matrices(scale), zero_point)


def compressed(weight: Grouped, like: CompressedTensor, axes: Axes) -> CompressedTensor:
    """The inverse of :func:`grouped`: ``like`` with other codes, scales and zero points."""
    codes = axes.restore(weight.lattice.codes(weight.levels))
    zero_point = None if weight.zero_point is None else weight.zero_point.astype(np.uint8)
    return evolve(
        like,
        codes=pack(codes, like.format.bits),
        scale=axes.restore(weight.lattice.stored(weight.scale), like.scale.shape),
        zero_point=None if zero_point is None else axes.restore(zero_point, like.scale.shape),
    )


def _check(tensor: CompressedTensor, axes: Axes) -> None:
    if set(tensor.reduction_axes) != set(axes.inputs):
        raise ValidationError(
            f"Scales of a weight of shape {list(tensor.shape)} are shared along axes {list(tensor.reduction_axes)}; "
            f"its operator sums over {list(axes.inputs)}."
        )
