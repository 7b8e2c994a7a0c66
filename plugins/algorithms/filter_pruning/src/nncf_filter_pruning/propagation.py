"""Where the channels of layers go: through the graph, from operator to operator.

Each tensor has an array of channels, of the tensor's rank: along axes on which it varies it has the tensor's size,
along all others size 1. A channel that is removed is never read but through weights that lose it, too; so what it holds
does not matter, and a model whose weights are masked there gives what the shrunk one gives, whatever the operators
between do with each element. Operators by kind are in :mod:`nncf_filter_pruning.rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from attrs import frozen

from nncf_core.graph import Graph, Node, OpKind, Port
from nncf_filter_pruning.channels import FREE, Channels

Rule: TypeAlias = "Callable[[Propagation, Node], str | None]"
"""Tells a propagation what an operator does with channels; gives why it does not know, and all of them stay."""

_LAYERS = (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL)

NOTHING = np.zeros((), np.int64)


@frozen
class Layer:
    """A convolution or a product with a weight.

    :param node: in the graph.
    :param weight: name of the weight.
    :param axis: axis of output channels of the weight.
    :param output: channels of its output, by index along the axis of channels.
    :param input_axis: axis of the weight that input channels are along; of a depthwise one ``None``.
    :param own: whether its output channels are its own, not those of its input (as of a depthwise one).
    """

    node: Node
    weight: str
    axis: int
    output: np.ndarray
    input_axis: int | None
    own: bool


class Propagation:
    """What is known so far, operator by operator in topological order.

    :ivar channels: which channels are joined, and which must stay.
    :ivar claims: channels along each axis of a constant that was understood, by its name and the axis.
    :ivar layers: in graph order.
    :ivar tensors: arrays of channels by name of the tensor.
    :ivar vectors: names of constants with one axis, by name of the tensor that a reshape makes of them.
    :ivar problems: why layers were not understood, by name.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.channels = Channels()
        self.claims: dict[tuple[str, int], np.ndarray] = {}
        self.layers: list[Layer] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.vectors: dict[str, str] = {}
        self.problems: dict[str, str] = {}
        self._understood: set[tuple[str, int]] = set()

    def run(self, rules: Mapping[OpKind, Rule]) -> None:
        """Go through the graph."""
        for node in self.graph:
            rule = None if node.scope else rules.get(node.kind)
            problem = "is not understood" if rule is None else rule(self, node)
            if problem is not None:
                self.stop(node, problem)
                if node.kind in _LAYERS and node.weights:
                    self.problems[node.name] = problem
            for port in node.outputs:
                if port.tensor in self.graph.outputs:
                    self.channels.block(self.of(port), f"{port.tensor!r} leaves the model")
        self._check_users()

    def stop(self, node: Node, problem: str) -> None:
        """All channels that reach a node, or that it has given so far, stay."""
        for port in (*node.inputs, *node.outputs):
            self.channels.block(self.of(port), f"{node.name!r} ({node.op_type}) {problem}")

    def let_be_a_vector(self, node: Node) -> bool:
        """Whether a node only reshapes a constant with one axis; those who take the result say what it is then."""
        name, shape = node.inputs[0].constant, node.outputs[0].shape
        if name is None or shape is None or node.inputs[0].tensor != name:
            return False
        constant = self.graph.constants[name]
        if len(constant.shape) != 1 or [size for size in shape if size != 1] != list(constant.shape):
            return False
        self.vectors[node.outputs[0].tensor] = name
        self._understood.add((node.name, 0))
        return True

    def of(self, port: Port) -> np.ndarray:
        """Channels of a tensor; of one of which nothing is known an array without axes, which holds :data:`FREE`."""
        return self.tensors.get(port.tensor, NOTHING)

    def give(self, port: Port, channels: np.ndarray) -> None:
        """Say which channels a tensor has; axes along which they do not vary may have any size."""
        for axis in range(channels.ndim):
            first = channels.take([0], axis)
            if channels.shape[axis] > 1 and (channels == first).all():
                channels = first
        if channels.any():
            self.tensors[port.tensor] = channels

    def along(self, port: Port, axis: int) -> np.ndarray | None:
        """Channels along the only axis on which they may vary; ``None`` when they vary on others, too."""
        shape = port.shape
        size = None if shape is None else shape[axis]
        if size is None:
            return None
        channels = self.of(port)
        if channels.ndim == 0:
            return np.full(size, FREE)
        varying = [other for other, n in enumerate(channels.shape) if n > 1]
        if varying not in ([], [axis]):
            return None
        return np.broadcast_to(channels.reshape(-1), (size,))

    def constant_of(self, port: Port) -> str | None:
        """The constant that feeds an input, as it is or as a reshaped vector."""
        return port.constant or self.vectors.get(port.tensor)

    def claim(self, node: Node, port: int, axes: Mapping[int, np.ndarray]) -> None:
        """Say which channels indices of a constant belong to.

        :param port: the input of ``node`` that it feeds.
        :param axes: channels by axis of the constant; those along other axes are of no channel.
        """
        name = self.constant_of(node.inputs[port])
        assert name is not None
        constant = self.graph.constants[name]
        for axis, size in enumerate(constant.shape):
            channels = axes.get(axis, np.full(size, FREE))
            if size == 1 and axis not in axes:
                continue
            if constant.compressed_format is not None and not constant.stored_as_float:
                self.channels.block(channels, f"the constant {name!r} is compressed")
            known = self.claims.get((name, axis))
            if known is None:
                self.claims[name, axis] = channels
            else:
                self.channels.join(known, channels, f"the constant {name!r} is shared with {node.name!r}")
        self._understood.add((node.name, port))

    def claim_operand(self, node: Node, port: int, channels: np.ndarray, rank: int, first: int | None = None) -> bool:
        """Say the same of a constant that broadcasts against a tensor; gives whether that could be said.

        :param channels: of the tensor.
        :param rank: of the tensor.
        :param first: the tensor's axis that the constant's first one is aligned with; by default the last ones are.
        """
        given = node.inputs[port]
        if given.constant is None:
            return self._claim_vector(node, port, channels, rank)
        shape = self.graph.constants[given.constant].shape
        if all(size == 1 for size in shape):
            self._understood.add((node.name, port))
            return True
        # behind a transpose
        if given.shape != shape or (given.tensor != given.constant and sum(size > 1 for size in shape) > 1):
            return not channels.any()
        offset = rank - len(shape) if first is None else first
        padded = channels.reshape((1,) * (rank - channels.ndim) + channels.shape)
        varying = [axis for axis, size in enumerate(padded.shape) if size > 1]
        covered = [axis for axis in varying if 0 <= axis - offset < len(shape) and shape[axis - offset] > 1]
        if len(varying) > 1 and covered:
            return False
        if not varying and channels.any() and any(size > 1 for size in shape):
            # all elements are of one channel, and so is the constant
            return False
        self.claim(node, port, {axis - offset: padded.reshape(-1) for axis in covered})
        return True

    def _claim_vector(self, node: Node, port: int, channels: np.ndarray, rank: int) -> bool:
        """The same of a vector that was reshaped, so that its elements lie along one axis."""
        given = node.inputs[port]
        sizes = (1,) * (rank - len(given.shape or ())) + tuple(given.shape or ())
        padded = channels.reshape((1,) * (rank - channels.ndim) + channels.shape)
        varying = [axis for axis, size in enumerate(padded.shape) if size > 1]
        along = [axis for axis, size in enumerate(sizes) if size != 1]
        if varying and varying != along:
            return False
        if not varying and channels.any():
            return False
        self.claim(node, port, {0: padded.reshape(-1)} if varying else {})
        if varying:
            known = self.tensors.setdefault(given.tensor, padded.reshape(padded.shape[rank - len(given.shape or ()) :]))
            self.channels.join(known.reshape(-1), padded.reshape(-1), f"{node.name!r} takes what others take, too")
        return True

    def _check_users(self) -> None:
        """Constants that somebody takes in a way that is not understood lose nothing."""
        named = {name for name, _ in self.claims}
        for name in named:
            blocks = [
                f"{node.name!r} ({node.op_type}) takes {name!r}, too"
                for node, port in self.graph.users(name)
                if (node.name, port) not in self._understood and not self._is_view(node, name)
            ]
            blocks += [
                f"{node.name!r} ({node.op_type}) takes {name!r}, too"
                for tensor in (tensor for tensor, constant in self.vectors.items() if constant == name)
                for node in self.graph.consumers(tensor)
                for port, given in enumerate(node.inputs)
                if given.tensor == tensor and (node.name, port) not in self._understood
            ]
            if any(constant == name and tensor in self.graph.outputs for tensor, constant in self.vectors.items()):
                blocks.append(f"the constant {name!r} leaves the model")
            if name in self.graph.outputs:
                blocks.append(f"the constant {name!r} leaves the model")
            for reason in blocks[:1]:
                for (constant, _), channels in self.claims.items():
                    if constant == name:
                        self.channels.block(channels, reason)

    def _is_view(self, node: Node, constant: str) -> bool:
        """Whether a node only hands a constant on to those that know whose it is."""
        ports = [
            port
            for output in node.outputs
            for user in self.graph.consumers(output.tensor)
            for port in user.inputs
            if port.tensor == output.tensor
        ]
        moved = node.kind in (OpKind.SHAPE_ONLY, OpKind.CAST)
        given = any(port.tensor in self.graph.outputs for port in node.outputs)
        return moved and not given and all(port.constant == constant for port in ports)
