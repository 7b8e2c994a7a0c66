"""Mean squares of the channels of a tensor without data, from the constants of what gives it.

A normalization gives its squared scale, and a layer ``Σ_j W_ij² E[x_j²]``, as for channels that are independent of each
other and have no mean. An activation and a residual are not looked into: only ratios between channels matter.
"""

from __future__ import annotations

import numpy as np
from attrs import field, frozen

from nncf_core.graph import Graph, Node, OpKind, Port

_DEPTH = 8  # operators that are looked through; what lies farther away does not tell channels apart

_UNARY = (OpKind.ACTIVATION, OpKind.RELU)
_BINARY = (OpKind.ADD, OpKind.SUBTRACT, OpKind.MULTIPLY, OpKind.DIVIDE)


@frozen
class Moments:
    """Estimates of ``E[x²]``."""

    graph: Graph
    _known: dict[str, np.ndarray | None] = field(factory=dict)

    def of(self, tensor: str, depth: int = _DEPTH) -> np.ndarray | None:
        """Of each channel (the last axis), float64, up to a common factor; ``None`` where nothing tells them apart."""
        if tensor not in self._known:
            node = self.graph.producer(tensor)
            found = None if node is None or not depth else self._given(node, depth - 1)
            if found is not None and not (np.isfinite(found).all() and found.max() > 0):
                found = None
            self._known[tensor] = found
        return self._known[tensor]

    def _given(self, node: Node, depth: int) -> np.ndarray | None:
        if node.kind is OpKind.LAYER_NORM:
            vectors = [self._vector(port) for port in node.inputs[1:3] if port.tensor]
            squares = [vector**2 for vector in vectors if vector is not None]
            return np.asarray(sum(squares)) if len(squares) == len(vectors) > 0 else None
        activations = [port.tensor for port in node.inputs if port.tensor and port.constant is None]
        if node.kind is OpKind.MATMUL and len(node.weights) == 1 == len(activations):
            return self._layer(node, activations[0], depth)
        if node.kind is OpKind.MULTIPLY and len(activations) == 2:
            return self._product(*activations, depth)
        if len(activations) != 1:
            return None
        if node.kind in _UNARY:
            return self.of(activations[0], depth)
        if node.kind in _BINARY and len(node.inputs) == 2:
            return self._with_constant(node, activations[0], depth)
        return None

    def _layer(self, node: Node, tensor: str, depth: int) -> np.ndarray | None:
        index, port = node.weights[0]
        layout = port.layout
        assert layout is not None
        assert port.constant is not None
        constant = self.graph.constants[port.constant]
        single = len(layout.reduction_axes) == 1 == len(layout.channel_axes) and not layout.batch_axes
        if not single or not constant.is_float or index == 0:
            return None
        weight = np.moveaxis(constant.read(), layout.reduction_axes[0], -1).astype(np.float32)
        constant.release()
        square = self.of(tensor, depth)
        if square is not None and square.size not in (1, weight.shape[1]):
            square = None
        given = np.square(weight) @ np.broadcast_to(1.0 if square is None else square, weight.shape[1])
        biases = [self._vector(other) for other in node.inputs if other.constant is not None and other.layout is None]
        return _joined(np.add, given, *(bias**2 for bias in biases if bias is not None))

    def _product(self, first: str, second: str, depth: int) -> np.ndarray | None:
        if self._origin(first) == self._origin(second):  # an activation of several operators, such as x·sigmoid(x)
            return self.of(self._origin(first), depth)
        return _joined(np.multiply, self.of(first, depth), self.of(second, depth))

    def _with_constant(self, node: Node, tensor: str, depth: int) -> np.ndarray | None:
        place = next(i for i, port in enumerate(node.inputs) if port.constant is not None)
        own, given = self._vector(node.inputs[place]), self.of(tensor, depth)
        if own is None or own.size == 1:  # the same for all channels
            return given
        if node.kind in (OpKind.ADD, OpKind.SUBTRACT):
            return None if given is None else _joined(np.add, given, own**2)
        if node.kind is OpKind.DIVIDE:
            if place == 0 or not own.all():
                return None
            own = 1 / own
        return _joined(np.multiply, own**2, given)

    def _origin(self, tensor: str) -> str:
        """What elementwise operators with no more than one activation make a tensor from."""
        for _ in range(_DEPTH):
            node = self.graph.producer(tensor)
            if node is None or node.kind not in (*_UNARY, *_BINARY):
                return tensor
            activations = [port.tensor for port in node.inputs if port.tensor and port.constant is None]
            if len(activations) != 1:
                return tensor
            tensor = activations[0]
        return tensor

    def _vector(self, port: Port) -> np.ndarray | None:
        """A constant that has one axis of more than one element, the last; or one element."""
        constant = None if port.constant is None else self.graph.constants[port.constant]
        if constant is None or not constant.is_float or not constant.size:
            return None
        if constant.size > 1 and constant.size != constant.shape[-1]:
            return None
        return constant.read().astype(np.float64).reshape(-1)


def _joined(how: np.ufunc, *parts: np.ndarray | None) -> np.ndarray | None:
    """The parts that are known, joined; ``None`` when there is none, or they do not fit together."""
    known = [part for part in parts if part is not None]
    if not known or len({part.size for part in known} - {1}) > 1:
        return None
    found = known[0]
    for part in known[1:]:
        found = how(found, part)
    return np.asarray(found)
