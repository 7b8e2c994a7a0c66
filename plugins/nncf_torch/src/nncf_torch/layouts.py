"""What the axes of a weight mean to PyTorch's operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nncf_core.graph import WeightLayout


def linear_layout(rank: int) -> WeightLayout:
    """``[…, outputs, inputs]``."""
    return WeightLayout((rank - 1,), tuple(range(rank - 2, rank - 1)), tuple(range(rank - 2)))


def matmul_layout(port: int, rank: int) -> WeightLayout | None:
    """The operand of a matrix product: the first ends in the axis that is summed over, the second begins with it."""
    if rank == 0:
        return None
    if rank == 1:
        return WeightLayout((0,), ())
    batch, rows, columns = tuple(range(rank - 2)), rank - 2, rank - 1
    return WeightLayout((columns,), (rows,), batch) if port == 0 else WeightLayout((rows,), (columns,), batch)


def embedding_layout(rank: int) -> WeightLayout:
    """``[rows, …]``."""
    return WeightLayout(tuple(range(1, rank)), (0,))


def conv_layout(rank: int) -> WeightLayout:
    """``[outputs, inputs / groups, *kernel]``."""
    return WeightLayout(tuple(range(1, rank)), (0,))


def conv_transpose_layout(groups: int, rank: int) -> WeightLayout:
    """``[inputs, outputs / groups, *kernel]``.

    With groups an output channel is a part of axis 0 and of axis 1; a scale for each input channel is what can be
    expressed then.
    """
    if groups == 1:
        return WeightLayout((0, *range(2, rank)), (1,))
    return WeightLayout(tuple(range(1, rank)), (0,))


def permuted(layout: WeightLayout, order: tuple[int, ...]) -> WeightLayout:
    """The layout before a permutation: axis ``i`` of its output is axis ``order[i]`` of its input."""

    def before(axes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(order[axis] for axis in axes))

    return WeightLayout(before(layout.reduction_axes), before(layout.channel_axes), before(layout.batch_axes))


def selected(layout: WeightLayout, axis: int) -> WeightLayout:
    """The layout before one index was taken of an axis: the indices are independent matrices."""

    def before(axes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(other + (other >= axis) for other in axes)

    batch = tuple(sorted((axis, *before(layout.batch_axes))))
    return WeightLayout(before(layout.reduction_axes), before(layout.channel_axes), batch)


def einsum_layout(equation: str, position: int) -> WeightLayout | None:
    """The layout of one of two operands, from the letters of its axes."""
    operands, arrow, output = equation.replace(" ", "").partition("->")
    letters = operands.split(",")
    if not arrow or len(letters) != 2 or "." in equation or len(set(letters[position])) != len(letters[position]):
        return None
    own, other = letters[position], letters[1 - position]
    reduced = tuple(axis for axis, letter in enumerate(own) if letter in other and letter not in output)
    batch = tuple(axis for axis, letter in enumerate(own) if letter in other and letter in output)
    channels = tuple(axis for axis, letter in enumerate(own) if letter not in other and letter in output)
    if not reduced or len(reduced) + len(batch) + len(channels) != len(own):
        return None
    return WeightLayout(reduced, channels, batch)


def before_view(step: str, rank: int, arguments: Sequence[Any], layout: WeightLayout) -> WeightLayout | None:
    """The layout of what a view was made of.

    :param step: name of the operator.
    :param rank: number of dimensions before.
    :param arguments: those of the operator, the tensor first.
    """
    order = list(range(rank))
    if step in ("select", "__getitem__"):
        axis, index = (0, arguments[1]) if step == "__getitem__" else arguments[1:3]
        if isinstance(axis, int) and _dimensions_of_index(index) == 0:
            return selected(layout, axis % rank)
        # several matrices, each whole
        return layout if _dimensions_of_index(index) == 1 and 0 in layout.batch_axes else None
    if step == "permute":
        axes = arguments[1] if isinstance(arguments[1], (list, tuple)) else arguments[1:]
        order = [int(axis) % rank for axis in axes]
    elif step == "transpose":
        first, second = int(arguments[1]) % rank, int(arguments[2]) % rank
        order[first], order[second] = order[second], order[first]
    elif step == "mT":
        order[-1], order[-2] = order[-2], order[-1]
    else:
        order.reverse()
    return permuted(layout, tuple(order))


def _dimensions_of_index(index: Any) -> int | None:
    """Dimensions of an integer, or of a tensor of integers; ``None`` for what is neither."""
    if isinstance(index, int):
        return None if isinstance(index, bool) else 0
    dtype = str(getattr(index, "dtype", ""))
    return int(index.ndim) if dtype in ("torch.int64", "torch.int32") else None
