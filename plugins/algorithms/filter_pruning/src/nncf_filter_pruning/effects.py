"""What the removal of channels does to a model: masks, edits, and the products and parameters that are left."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import numpy as np
from attrs import frozen

from nncf_core.graph import FLOAT_DTYPES, MoveKind, Node, OpKind
from nncf_core.transformations import ReplaceConstant, ResizeOutput, ShrinkConstant, Transformation
from nncf_filter_pruning.channels import FREE
from nncf_filter_pruning.coupling import Coupling
from nncf_filter_pruning.moving import moved


@frozen
class Removal:
    """Channels that go.

    :param gone: whether each does, by its number, booleans of :attr:`Coupling.size`.
    """

    coupling: Coupling
    gone: np.ndarray

    def stays(self, channels: np.ndarray) -> np.ndarray:
        """Which of these stay."""
        stays: np.ndarray = ~self.gone[channels]
        return stays

    def axes(self) -> Iterator[tuple[str, int, np.ndarray]]:
        """Name and axis of each constant that loses something, and which indices stay."""
        for (name, axis), channels in self.coupling.claims.items():
            stays = self.stays(channels)
            if not stays.all():
                yield name, axis, stays


def none_of(coupling: Coupling) -> Removal:
    """All channels stay."""
    return Removal(coupling, np.zeros(coupling.size, bool))


def masks(removal: Removal) -> dict[str, np.ndarray]:
    """Ones where elements stay, which broadcast against the constants and have their ranks, by name."""
    found: dict[str, np.ndarray] = {}
    for name, axis, stays in removal.axes():
        rank = len(removal.coupling.graph.constants[name].shape)
        mask = stays.astype(np.float32).reshape([-1 if other == axis else 1 for other in range(rank)])
        found[name] = found[name] * mask if name in found else mask
    return found


def masking(removal: Removal) -> list[Transformation]:
    """Zeros in place of what goes."""
    constants = removal.coupling.graph.constants
    return [ReplaceConstant(name, constants[name].read() * mask) for name, mask in masks(removal).items()]


def shrinking(removal: Removal) -> list[Transformation]:
    """The edits after which what goes is gone."""
    edits: list[Transformation] = []
    before = {name: len(stays) for name, _, stays in removal.axes()}
    for name, axis, stays in removal.axes():
        kept = tuple(np.flatnonzero(stays).tolist())
        edits.append(ShrinkConstant(name, axis, kept, f"{len(kept)} of {len(stays)} channels stay"))
    if not before:
        return []
    resized = (_resized(removal, node) for node in removal.coupling.graph)
    return edits + [edit for edit in resized if edit is not None]


def _resized(removal: Removal, node: Node) -> ResizeOutput | None:
    tensors = removal.coupling.tensors
    if node.kind not in (OpKind.SHAPE_ONLY, OpKind.SPLIT) or not node.inputs:
        return None
    before = tuple(port.shape or () for port in node.outputs)
    after = tuple(_smaller(removal, port.tensor, port.shape or ()) for port in node.outputs)
    channels = tensors.get(node.inputs[0].tensor)  # none of a constant that is reshaped
    slices = _slices(removal, node, channels) if channels is not None else None
    if before == after and slices is None:
        return None
    return ResizeOutput(node.name, before, after, slices or ())


def _smaller(removal: Removal, tensor: str, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    channels = removal.coupling.tensors.get(tensor)
    if channels is None:
        return shape
    sizes = list(shape)
    for axis, size in enumerate(channels.shape):
        if size > 1:
            sizes[axis] = int(removal.stays(channels.reshape(-1)).sum())
    return tuple(sizes)


def _slices(removal: Removal, node: Node, channels: np.ndarray) -> tuple[tuple[int, ...], ...] | None:
    """The numbers of each slice behind the removal; ``None`` where none changes."""
    shape, moves = node.inputs[0].shape, node.moves or ()
    found, changed = [], False
    for index, move in enumerate(moves):
        if move.kind is not MoveKind.SLICE:
            continue
        axis, start, stop, step = move.numbers
        assert shape is not None
        sizes = _sizes_after(shape, node, index)
        before = moved(channels, moves[:index], shape, sizes)
        if before is not None and before.shape[axis] > 1:
            stays = removal.stays(before.reshape(-1))
            new: tuple[int, ...] = (axis, int(stays[:start].sum()), int(stays[:stop].sum()), step)
        else:
            new = move.numbers
        changed |= new != move.numbers
        found.append(new)
    return tuple(found) if changed else None


def _sizes_after(shape: tuple[int | None, ...], node: Node, count: int) -> tuple[int | None, ...]:
    """The shape behind the first moves of a node, which are slices."""
    sizes = list(shape)
    for move in (node.moves or ())[:count]:
        axis, start, stop, step = move.numbers
        sizes[axis] = len(range(start, stop, step))
    return tuple(sizes)


@frozen
class _Work:
    """Products of a layer: how many at first, and which channels they are of."""

    name: str
    products: float
    output: np.ndarray
    input: np.ndarray


class Costs:
    """Products and parameters of a model, with some channels gone.

    A multiplication and the addition that follows count as two operations, of convolutions and products with weights,
    for one sample; dimensions that are not known count as one.
    """

    def __init__(self, coupling: Coupling) -> None:
        self._coupling = coupling
        constants = coupling.graph.constants
        self._work = []
        for layer in coupling.layers:
            inputs = np.array([FREE]) if layer.input_axis is None else coupling.claims[layer.weight, layer.input_axis]
            products = _products(layer.node, constants[layer.weight].shape)
            self._work.append(_Work(layer.node.name, products, layer.output, inputs))
        self._axes: dict[str, dict[int, np.ndarray]] = {}
        for (name, axis), channels in coupling.claims.items():
            self._axes.setdefault(name, {})[axis] = channels

    @property
    def unsized(self) -> int:
        """How many layers have dimensions that are not known, beside that of the batch."""
        nodes = (layer.node for layer in self._coupling.layers)
        return sum(None in (*(node.inputs[0].shape or ())[1:], *(node.outputs[0].shape or ())[1:]) for node in nodes)

    def operations(self, removal: Removal) -> float:
        """Floating-point operations of the layers."""
        return sum(self.by_layer(removal).values())

    def by_layer(self, removal: Removal) -> Mapping[str, float]:
        """The same, by name of the layer."""
        return {
            work.name: 2 * work.products * removal.stays(work.output).mean() * removal.stays(work.input).mean()
            for work in self._work
        }

    def filters(self, removal: Removal) -> int:
        """Filters of the layers that have any of their own."""
        return sum(int(removal.stays(layer.output).sum()) for layer in self._coupling.layers if layer.own)

    def parameters(self, removal: Removal) -> int:
        """Elements of the floating-point constants."""
        total = 0.0
        for name, constant in self._coupling.graph.constants.items():
            if constant.dtype in FLOAT_DTYPES:
                shares = (removal.stays(channels).mean() for channels in self._axes.get(name, {}).values())
                total += constant.size * math.prod(shares)
        return round(total)


def _products(node: Node, weight: tuple[int, ...]) -> float:
    """Products of a layer for one sample: each element of the weight takes part once at each place."""
    if node.kind is OpKind.MATMUL:
        places = (node.outputs[0].shape or ())[1:-1]
    else:
        layout = node.weights[0][1].layout
        groups = 0 if layout is None else len(layout.batch_axes)
        # a transposed convolution goes over the places of its input
        port = node.inputs[0] if node.kind is OpKind.CONV_TRANSPOSE else node.outputs[0]
        places = (port.shape or ())[-(len(weight) - 2 - groups) :]
    return float(math.prod(size or 1 for size in places) * math.prod(weight))


def masked_constants(coupling: Coupling, channels: Collection[int], batch_norms: bool) -> dict[str, tuple[int, ...]]:
    """Constants that get masks for some channels to be zero, and the shapes of the masks.

    Weights of the layers that give them and of those that take them, biases of the former, and scales and shifts of
    normalization.

    :param batch_norms: whether normalization is among them.
    """
    graph, found = coupling.graph, dict[str, list[int]]()
    for (name, axis), along in coupling.claims.items():
        if not np.isin(along, list(channels)).any():
            continue
        if any(_is_masked(node, port, batch_norms) for node, port in graph.users(name)):
            shape = graph.constants[name].shape
            found.setdefault(name, [1] * len(shape))[axis] = shape[axis]
    return {name: tuple(shape) for name, shape in found.items()}


def _is_masked(node: Node, port: int, batch_norms: bool) -> bool:
    if node.kind is OpKind.BATCH_NORM:
        return batch_norms and port in (1, 2)
    return node.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL)
