"""The backend-neutral graph: what algorithms see of a model.

A graph builder makes it; nothing in it refers to a framework's objects. Everything is frozen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import cached_property

import numpy as np
from attrs import field, frozen

from nncf_core.errors import ValidationError
from nncf_core.numerics.arrays import Array
from nncf_core.numerics.tensor import CompressedTensor


class OpKind(Enum):
    """Canonical operator kinds. What a backend does not know is ``OTHER`` and is left alone."""

    INPUT = "Input"
    OUTPUT = "Output"
    CONV = "Conv"
    CONV_TRANSPOSE = "ConvTranspose"
    MATMUL = "MatMul"
    ATTENTION = "Attention"  # inputs: queries, keys, values, mask
    EMBEDDING = "Embedding"
    RECURRENT = "Recurrent"
    ADD = "Add"
    SUBTRACT = "Subtract"
    MULTIPLY = "Multiply"
    DIVIDE = "Divide"
    RELU = "Relu"  # and others that are positively homogeneous: f(a·x) = a·f(x) for a > 0
    ACTIVATION = "Activation"
    PERIODIC = "Periodic"  # sine, cosine
    SOFTMAX = "Softmax"
    BATCH_NORM = "BatchNorm"  # inputs: activations, scale, shift, mean, variance
    LAYER_NORM = "LayerNorm"  # inputs: activations, scale, shift where there is one
    NORMALIZATION = "Normalization"
    MAX_POOL = "MaxPool"
    AVERAGE_POOL = "AveragePool"
    REDUCE = "Reduce"
    RESIZE = "Resize"
    CONCAT = "Concat"
    SPLIT = "Split"
    SHAPE_ONLY = "ShapeOnly"
    SHAPE_OF = "ShapeOf"  # looks at no element
    CAST = "Cast"
    QUANTIZE = "Quantize"
    DEQUANTIZE = "Dequantize"
    CONTROL_FLOW = "ControlFlow"
    OTHER = "Other"


class Trait(Enum):
    """Properties of an operator that algorithms ask for."""

    WEIGHTED = "weighted"  # has an operand that is normally a trained constant
    ELEMENTWISE = "elementwise"
    SHAPE_ONLY = "shape_only"  # moves or views elements, changes no value
    QUANTIZATION_AGNOSTIC = "quantization_agnostic"  # commutes with quantization of its input


_TRAITS: Mapping[OpKind, frozenset[Trait]] = {
    OpKind.CONV: frozenset({Trait.WEIGHTED}),
    OpKind.CONV_TRANSPOSE: frozenset({Trait.WEIGHTED}),
    OpKind.MATMUL: frozenset({Trait.WEIGHTED}),
    OpKind.EMBEDDING: frozenset({Trait.WEIGHTED}),
    OpKind.RECURRENT: frozenset({Trait.WEIGHTED}),
    OpKind.ADD: frozenset({Trait.ELEMENTWISE}),
    OpKind.SUBTRACT: frozenset({Trait.ELEMENTWISE}),
    OpKind.MULTIPLY: frozenset({Trait.ELEMENTWISE}),
    OpKind.DIVIDE: frozenset({Trait.ELEMENTWISE}),
    OpKind.RELU: frozenset({Trait.ELEMENTWISE}),
    OpKind.ACTIVATION: frozenset({Trait.ELEMENTWISE}),
    OpKind.PERIODIC: frozenset({Trait.ELEMENTWISE}),
    OpKind.SHAPE_ONLY: frozenset({Trait.SHAPE_ONLY, Trait.QUANTIZATION_AGNOSTIC}),
    OpKind.SPLIT: frozenset({Trait.SHAPE_ONLY, Trait.QUANTIZATION_AGNOSTIC}),
    OpKind.MAX_POOL: frozenset({Trait.QUANTIZATION_AGNOSTIC}),
}


def traits_of(kind: OpKind) -> frozenset[Trait]:
    """Traits that every operator of this kind has."""
    return _TRAITS.get(kind, frozenset())


@frozen
class WeightLayout:
    """What the axes of a constant operand mean to the operator that uses it.

    The axes are those of the *constant*, after looking through transposes: the same constant may have
    another layout in another operator.

    :param reduction_axes: axes that the operator sums over (input channels, kernel positions); for an
        embedding the axes of the embedding vector. One scale is shared along them.
    :param channel_axes: axes that remain in the output (output channels, vocabulary rows).
    :param batch_axes: axes of independent matrices (experts, heads, directions).
    """

    reduction_axes: tuple[int, ...]
    channel_axes: tuple[int, ...]
    batch_axes: tuple[int, ...] = ()


@frozen
class Constant:
    """A lazy handle of a constant tensor.

    :param name: unique in the graph; transformations refer to it.
    :param dtype: numpy or ``ml_dtypes`` name of the element type, e.g. ``float32``, ``bfloat16``, ``int4``.
        Of a compressed constant: the type that it decompresses to.
    :param shape: of a compressed constant: the shape that it decompresses to.
    :param read: returns the array; a memory-mapped view where the framework can. Read-only.
    :param release: gives memory-mapped pages of the array back to the system, after its last use.
    :param stored_bytes: bytes that the constant takes in the model (with scales and zero points).
    :param compressed: reads the low-bit form, when the constant is already compressed in the model.
    :param compressed_format: number format of the low-bit form, e.g. ``uint4``; ``None`` when not compressed.
    :param granularity: what shares a scale in the low-bit form, for people, e.g. ``group size 64``.
    :param stored_as_float: whether the model stores floating-point numbers, and rounds them to the low-bit form
        whenever they are read.
    :param masked: whether the model multiplies it by a mask whenever it is read, see
        :class:`~nncf_core.transformations.InsertMask`. ``read`` gives what the mask leaves in evaluation.
    :param on_device: returns the values where they lie: what ``read`` gives, or the framework's own array, on a
        device whose memory numpy cannot see. ``None`` where there are no such devices.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray] = field(repr=False, eq=False)
    release: Callable[[], None] = field(default=lambda: None, repr=False, eq=False)
    stored_bytes: int = 0
    compressed: Callable[[], CompressedTensor] | None = field(default=None, repr=False, eq=False)
    compressed_format: str | None = None
    granularity: str = ""
    stored_as_float: bool = False
    on_device: Callable[[], Array] | None = field(default=None, repr=False, eq=False)
    masked: bool = False

    def array(self) -> Array:
        """The values where they lie: what :attr:`read` gives, or an array of another library on its device.

        The functions of :mod:`nncf_core.numerics.kernels` take either. Read-only.
        """
        return (self.on_device or self.read)()

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it holds uncompressed floating-point numbers of 8 or more bits."""
        return self.compressed_format is None and self.dtype in FLOAT_DTYPES


FLOAT_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"})


@frozen
class Port:
    """An input or an output of a node.

    :param tensor: name of the tensor; it connects the producer's output to the consumers' inputs.
    :param dtype: element type, ``None`` when unknown.
    :param shape: dimensions, ``None`` in place of a dimension that is not known; ``None`` when even the
        rank is not known.
    :param constant: name of the constant that feeds this input, looking through transposes, casts and
        copies; ``None`` for activations. An input with neither constant nor producer is an input of the model.
    :param layout: meaning of that constant's axes here; ``None`` unless the input is a weight.
    """

    tensor: str
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    constant: str | None = None
    layout: WeightLayout | None = None


class MoveKind(Enum):
    """Steps that operators which only move elements consist of."""

    RESHAPE = "reshape"  # the same elements in the same order; numbers: none, the node's output has the shape
    PERMUTE = "permute"  # numbers: for each axis of the result, the axis that it was
    SLICE = "slice"  # numbers: axis, first index, index behind the last, step
    EXPAND = "expand"  # axes of size 1, or axes before the first, are repeated


@frozen
class Move:
    """A step of an operator that only moves elements.

    :param kind: what it does.
    :param numbers: its parameters, see :class:`MoveKind`; no number is negative.
    """

    kind: MoveKind
    numbers: tuple[int, ...] = ()


@frozen
class Node:
    """An operator.

    :param name: the user's own name where there is one and it is unique; otherwise derived from it.
    :param op_type: the framework's name of the operator type.
    :param kind: the canonical kind.
    :param scope: names of the control-flow nodes or functions that contain it, outermost first.
    :param attributes: plain values that algorithms may need (``axis``, ``epsilon`` …). Of a convolution ``padded``:
        whether zeros are put around its input; not there when that is not known. Of a split ``equal_parts``: whether
        it makes a number of equal parts, whatever the size is. ``activation_bits`` where the runtime rounds its input
        to so many bits before it computes. ``feed`` of an input: the name that it is fed by. ``former_name``: another
        name that users may know it by.
    :param axes: axes that the operator looks across, counted from 0: of a concatenation and a split the axis, of
        reductions, softmax, layer normalization and pooling the axes, of quantization and PReLU the axis of what has
        a scale or slope for each channel; ``None`` when not known, or there are none.
    :param moves: what an operator that only moves elements does, step by step; ``None`` when not known.
    :param strides: of a convolution; ``()`` when not known.
    """

    name: str
    op_type: str
    kind: OpKind
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    scope: tuple[str, ...] = ()
    attributes: Mapping[str, object] = field(factory=dict)
    axes: tuple[int, ...] | None = None
    moves: tuple[Move, ...] | None = None
    strides: tuple[int, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names that users may know it by."""
        former = self.attributes.get("former_name")
        return frozenset({self.name} if former is None else {self.name, str(former)})

    @property
    def traits(self) -> frozenset[Trait]:
        """Traits of the node's kind."""
        return traits_of(self.kind)

    @property
    def weights(self) -> tuple[tuple[int, Port], ...]:
        """Input index and port of every constant operand that the operator uses as a weight."""
        return tuple((i, p) for i, p in enumerate(self.inputs) if p.constant and p.layout)


def _tuple(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(nodes)


@frozen
class Graph:
    """A model as algorithms see it.

    :param framework: name of the backend that made it.
    :param nodes: in topological order.
    :param constants: by name.
    :param properties: facts that only the backend itself looks at, such as the version of the format.
    :param outputs: names of the tensors that leave the model; nodes may take them all the same.
    :raises ValidationError: when two nodes have the same name.
    """

    framework: str
    nodes: tuple[Node, ...] = field(converter=_tuple)
    constants: Mapping[str, Constant] = field(factory=dict)
    properties: Mapping[str, object] = field(factory=dict)
    outputs: frozenset[str] = frozenset()

    def __attrs_post_init__(self) -> None:
        if len(self._by_name) != len(self.nodes):
            names = [n.name for n in self.nodes]
            twice = sorted({n for n in names if names.count(n) > 1})
            raise ValidationError(f"Two nodes of the graph have the same name: {', '.join(twice[:5])}.")

    # attrs' slots leave room for cached properties
    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _producer(self) -> dict[str, Node]:
        return {port.tensor: node for node in self.nodes for port in node.outputs}

    @cached_property
    def _consumers(self) -> dict[str, tuple[Node, ...]]:
        result: dict[str, list[Node]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(port.tensor for port in node.inputs):
                result.setdefault(tensor, []).append(node)
        return {tensor: tuple(nodes) for tensor, nodes in result.items()}

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def node(self, name: str) -> Node:
        """The node of this name.

        :raises ValidationError: when there is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise ValidationError(f"The graph has no node named {name!r}.") from None

    def producer(self, tensor: str) -> Node | None:
        """The node that produces a tensor; ``None`` for constants and unknown tensors."""
        return self._producer.get(tensor)

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that take a tensor, in topological order."""
        return self._consumers.get(tensor, ())

    def predecessors(self, node: Node) -> tuple[Node, ...]:
        """Producers of the node's inputs, each once."""
        found = (self.producer(port.tensor) for port in node.inputs)
        return tuple({n.name: n for n in found if n is not None}.values())

    def successors(self, node: Node) -> tuple[Node, ...]:
        """Consumers of the node's outputs, each once."""
        return tuple({n.name: n for port in node.outputs for n in self.consumers(port.tensor)}.values())

    def users(self, constant: str) -> tuple[tuple[Node, int], ...]:
        """Every (node, input index) that a constant feeds as a weight or otherwise."""
        return tuple(self._users.get(constant, ()))

    @cached_property
    def _users(self) -> dict[str, list[tuple[Node, int]]]:
        result: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for index, port in enumerate(node.inputs):
                if port.constant is not None:
                    result.setdefault(port.constant, []).append((node, index))
        return result

    def of_kind(self, kinds: Iterable[OpKind]) -> tuple[Node, ...]:
        """Nodes of any of these kinds, in topological order."""
        wanted = frozenset(kinds)
        return tuple(node for node in self.nodes if node.kind in wanted)
