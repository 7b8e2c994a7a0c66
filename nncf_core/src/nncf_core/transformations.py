"""Target points and the closed vocabulary of edits that algorithms ask for and backends carry out.

Commands hold names and arrays, never callbacks, so that a plan can be stored, shown, and applied elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TypeAlias

import numpy as np
from attrs import field, frozen

from nncf_core.graph import Graph
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.numerics.tensor import CompressedTensor

Adapter: TypeAlias = np.ndarray | CompressedTensor
"""One of the matrices of a low-rank branch."""


class PointKind(Enum):
    """Where a target point lies relative to its node."""

    INPUT = "input"
    OUTPUT = "output"


@frozen(cache_hash=True)
class TargetPoint:
    """The tensor that enters a node's input, or leaves its output.

    :param node: name of the node.
    :param kind: input or output.
    :param port: index of the input or output.
    """

    node: str
    kind: PointKind = PointKind.OUTPUT
    port: int = 0

    def __str__(self) -> str:
        return f"{self.node}:{self.kind.value}:{self.port}"


@frozen
class Training:
    """How a compressed constant is to be trained, in a framework that trains.

    It stays in floating point, and is rounded to codes whenever it is read. At first these are the codes of the
    compressed form. The range of what codes stand for is trained, and so is a product of two matrices of low rank
    (https://arxiv.org/abs/2106.09685), which is added before rounding: ``round(W + B·A)``. All other parameters of the
    model are frozen.

    :param adapter_rank: columns of ``B`` and rows of ``A``, over the last two axes of the constant; ``0``: no product.
    """

    adapter_rank: int = 0


@frozen
class CompressConstant:
    """Replace a constant, for all its users, by its compressed form and what decompresses it.

    :param constant: name of the constant.
    :param tensor: the compressed form.
    :param reason: why this format was chosen, for the report.
    :param integer_operand: whether operators compute with the codes, their other operands being quantized, too. A
        framework that trains keeps the float values then, and rounds them to the codes whenever they are read.
    :param training: how the constant is to be trained; ``None``: it is stored as codes. Only for backends whose
        inserter is a :class:`~nncf_core.contracts.TrainingInserter`.
    :param integers: of an integer operand, the smallest and the largest of the integers that training may choose from,
        where these are not all of the format's.
    """

    constant: str
    tensor: CompressedTensor
    reason: str = ""
    integer_operand: bool = False
    training: Training | None = None
    integers: tuple[int, int] | None = None


@frozen
class ReplaceConstant:
    """Give a constant, for all its users, new values; a compressed one becomes float again.

    Their shape is the same, or one that the old values broadcast to: a number may become one number for each channel.

    :param constant: name of the constant.
    :param value: the new values, an array of numpy or of the framework's own library; they are cast to the constant's
        own element type.
    :param reason: why, for the report.
    """

    constant: str
    value: np.ndarray = field(repr=False, eq=False)
    reason: str = ""


@frozen
class InsertMultiply:
    """Multiply the tensor at a target point by a constant that broadcasts against it.

    :param target: at an input, only that input sees the product; at an output, all consumers do.
    :param factor: the constant; it is cast to the tensor's element type.
    :param name: name of the new node.
    """

    target: TargetPoint
    factor: np.ndarray = field(repr=False, eq=False)
    name: str = ""
    reason: str = ""


@frozen
class InsertThreshold:
    """Set elements of the tensor at a target point to zero that do not exceed a number in magnitude.

    :param target: at an input, only that input sees the zeros; at an output, all consumers do.
    :param threshold: from 0; elements of this magnitude become zero, too.
    :param name: name of the new node.
    """

    target: TargetPoint
    threshold: float
    name: str = ""
    reason: str = ""


@frozen
class InsertBias:
    """Give a layer that has no bias one.

    :param node: name of the layer, a convolution or a product with a weight as second operand.
    :param value: a number for each output channel, which is added to all that the layer gives; it is cast to the
        element type of that.
    """

    node: str
    value: np.ndarray = field(repr=False, eq=False)
    reason: str = ""


@frozen
class InsertLowRank:
    """Add a product of two small matrices to what layers multiply with a constant: ``y + (x·Aᵀ)·Bᵀ``.

    The constant itself is left to other edits, before or after. For products whose activations have their channels last
    and whose weight is a matrix, see :mod:`nncf_core.low_rank`; the new nodes have the layer's name with
    ``/low_rank`` behind it.

    :param constant: name of the weight, whose users all get the branch.
    :param down: A, [rank, inputs]: floating-point numbers, which are cast to the element type of what the layer gives,
        or a compressed form with one scale for each row.
    :param up: B, [outputs, rank], likewise.
    :param reason: why, for the report.
    """

    constant: str
    down: Adapter = field(repr=False, eq=False)
    up: Adapter = field(repr=False, eq=False)
    reason: str = ""

    @property
    def rank(self) -> int:
        """Rows of A, and columns of B."""
        return int(self.down.shape[0])


@frozen
class InsertQuantizer:
    """Quantize the tensor at a target point.

    :param target: at an input, only that input sees the quantized tensor; at an output, all consumers do.
    :param quantizer: range and integers.
    :param name: name of the new node, or what names of several begin with.
    """

    target: TargetPoint
    quantizer: Quantizer
    name: str = ""
    reason: str = ""


class MaskKind(Enum):
    """Where the zeros and ones of a mask come from."""

    FIXED = "fixed"  # set by the algorithm's controller
    SAMPLED = "sampled"  # 1 with probability sigmoid(parameter) in training, where that exceeds 0.5 in evaluation
    SCORED = "scored"  # 1 where the parameter exceeds a threshold


@frozen
class InsertMask:
    """Multiply a constant, for all its users, by zeros and ones whenever it is read, in a framework that trains.

    A constant has at most one mask; where it is rounded, too, that comes after the mask. ``ReplaceConstant`` leaves the
    mask where it is, ``CompressConstant`` without ``training`` and ``integer_operand`` takes it away.

    :param constant: name of the constant.
    :param mask: of ``FIXED`` masks the zeros and ones to begin with, of the others the parameters, which are trained.
        It has the constant's rank, and each of its dimensions divides the constant's: an element stands for a block.
    :param kind: where zeros and ones come from. Gradients go straight through the step to the parameters of ``SAMPLED``
        (Srinivas et al. 2017, https://arxiv.org/abs/1611.06694) and ``SCORED`` masks (Sanh et al. 2020,
        https://arxiv.org/abs/2005.07683).
    :param reason: why, for the report.
    """

    constant: str
    mask: np.ndarray = field(repr=False, eq=False)
    kind: MaskKind = MaskKind.FIXED
    reason: str = ""


@frozen
class FoldMask:
    """Give a constant the values that its mask leaves, and take the mask away.

    :param constant: name of a constant with a mask.
    :param reason: why, for the report.
    """

    constant: str
    reason: str = ""


def _indices(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


@frozen
class ShrinkConstant:
    """Keep some indices of an axis of a constant, for all its users, and drop the others.

    What operators state of it follows: numbers of channels, features and groups, as far as their weights tell. A
    convolution whose weight has one input channel for each of several groups is depthwise: where axis 0 of the weight
    shrinks, so does the number of groups; others keep theirs. Shrinking all that must fit together is up to the
    algorithm.

    :param constant: name of the constant, which is not compressed.
    :param axis: of the constant, counted from 0.
    :param kept: indices, ascending, at least one.
    :param reason: why, for the report.
    """

    constant: str
    axis: int
    kept: tuple[int, ...] = field(converter=_indices)
    reason: str = ""


@frozen
class ResizeOutput:
    """Let an operator that states sizes of what it gives state others, where shrunk constants call for it.

    For operators that only move elements, and splits. Sizes that follow from the operator's input stay as they are
    stated: ``-1`` or ``0`` of a reshape, a number of equal parts, or what is computed from shapes.

    :param node: name of the node.
    :param before: shape of each output as it is; ``None`` in place of a dimension that is not known.
    :param after: shape of each output as it is to be.
    :param slices: of an operator that takes parts of axes, the new numbers of each of its steps, see
        :class:`~nncf_core.graph.MoveKind`.
    :param reason: why, for the report.
    """

    node: str
    before: tuple[tuple[int | None, ...], ...]
    after: tuple[tuple[int | None, ...], ...]
    slices: tuple[tuple[int, ...], ...] = ()
    reason: str = ""

    @property
    def axis(self) -> int:
        """The first axis along which an output changes its size."""
        pairs = zip(self.before, self.after, strict=True)
        changed = (
            i for old, new in pairs for i, sizes in enumerate(zip(old, new, strict=True)) if sizes[0] != sizes[1]
        )
        return next(changed, 0)


def point_of(graph: Graph, tensor: str) -> TargetPoint:
    """The point where a tensor is looked at: where it is produced, or where it is first taken."""
    producer = graph.producer(tensor)
    if producer is not None:
        port = next(i for i, output in enumerate(producer.outputs) if output.tensor == tensor)
        return TargetPoint(producer.name, PointKind.OUTPUT, port)
    node = graph.consumers(tensor)[0]
    return TargetPoint(node.name, PointKind.INPUT, next(i for i, p in enumerate(node.inputs) if p.tensor == tensor))


def tensor_at(graph: Graph, point: TargetPoint) -> str | None:
    """The name of the tensor at a point; ``None`` where there is none."""
    node = graph.node(point.node) if point.node in graph else None
    ports = () if node is None else node.inputs if point.kind is PointKind.INPUT else node.outputs
    return ports[point.port].tensor or None if 0 <= point.port < len(ports) else None


def is_extension(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether values of the old shape broadcast to the new one."""
    try:
        return np.broadcast_shapes(old, new) == tuple(new)
    except ValueError:
        return False


def masks(old: tuple[int, ...], mask: tuple[int, ...]) -> bool:
    """Whether a mask of a shape can stand for blocks of a constant of another."""
    return len(old) == len(mask) and all(m > 0 and n % m == 0 for n, m in zip(old, mask, strict=True))


Transformation: TypeAlias = (
    CompressConstant
    | ReplaceConstant
    | InsertMultiply
    | InsertThreshold
    | InsertBias
    | InsertLowRank
    | InsertQuantizer
    | InsertMask
    | FoldMask
    | ShrinkConstant
    | ResizeOutput
)

OF_CONSTANTS = (CompressConstant, ReplaceConstant, InsertLowRank, InsertMask, FoldMask, ShrinkConstant)
"""Kinds of edits that name a constant."""
