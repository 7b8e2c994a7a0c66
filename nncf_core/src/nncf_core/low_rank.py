"""Low-rank branches beside layers: which layers can have one, and its two matrices."""

from __future__ import annotations

import numpy as np

from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.graph import Constant, Graph, Node, OpKind
from nncf_core.numerics.arrays import to_host
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.refining import layer_inputs
from nncf_core.transformations import Adapter, InsertLowRank

_VIEWS = (OpKind.SHAPE_ONLY, OpKind.CAST)


def branched_layers(graph: Graph, constant: str) -> tuple[tuple[Node, int], ...]:
    """The layers that take a weight, each with the port of its activations, where all can have a branch; else none.

    They multiply the last axis of activations by a matrix, and give outputs along the last axis. Layers in the bodies
    of control flow cannot have one.
    """
    known = graph.constants.get(constant)
    if known is None or len(known.shape) != 2:
        return ()
    inputs = {each.node: each for each in layer_inputs(graph, constant)}
    found: list[tuple[Node, int]] = []
    layouts = set()
    for node, index in graph.users(constant):
        layout = node.inputs[index].layout
        if layout is None and node.kind in _VIEWS:
            continue  # what lies between a weight and its layer
        each = inputs.get(node.name)
        if each is None or layout is None or node.kind is not OpKind.MATMUL or each.axis != -1:
            return ()
        before = [port for port, given in enumerate(node.inputs[:index]) if given.tensor == each.tensor]
        if not before or len(layout.reduction_axes) != 1 or len(layout.channel_axes) != 1:
            return ()
        found.append((node, before[-1]))
        layouts.add(layout)
    return tuple(found) if len(layouts) == 1 else ()


def layers_of(graph: Graph, edit: InsertLowRank) -> tuple[tuple[Node, int], ...]:
    """The layers that an edit gives a branch, each with the port of its activations.

    :raises ValidationError: when the model lacks the constant, or the matrices do not fit it.
    :raises ParameterNotSupportedError: when its users cannot all have a branch.
    """
    if edit.constant not in graph.constants:
        raise ValidationError(f"The model has no constant {edit.constant!r}.")
    layers = branched_layers(graph, edit.constant)
    if not layers:
        raise ParameterNotSupportedError(
            f"The constant {edit.constant!r} cannot have a low-rank branch: not all its users are products of "
            "activations, channels last, with a matrix."
        )
    outputs, inputs = outputs_and_inputs(graph, edit.constant)
    shapes, rank = (tuple(edit.down.shape), tuple(edit.up.shape)), edit.down.shape[0]
    if shapes != ((rank, inputs), (outputs, rank)):
        raise ValidationError(
            f"The low-rank branch of {edit.constant!r} has matrices of shapes {shapes[0]} and {shapes[1]}; they must "
            f"be [rank, {inputs}] and [{outputs}, rank]."
        )
    return layers


def outputs_and_inputs(graph: Graph, constant: str) -> tuple[int, int]:
    """How many outputs and inputs a matrix has, by the layout that its layers know."""
    node, _ = branched_layers(graph, constant)[0]
    layout = next(port.layout for port in node.inputs if port.constant == constant and port.layout is not None)
    shape = graph.constants[constant].shape
    return shape[layout.channel_axes[0]], shape[layout.reduction_axes[0]]


def values_of(adapter: Adapter) -> np.ndarray:
    """What a matrix of a branch is, in floating point; of a compressed one float32."""
    if isinstance(adapter, CompressedTensor):
        return decompress(adapter.on_host(), np.float32)
    return to_host(adapter)


def product_of(graph: Graph, edit: InsertLowRank) -> np.ndarray:
    """What a branch adds to a weight, float32 of the constant's own shape."""
    node, _ = layers_of(graph, edit)[0]
    layout = next(port.layout for port in node.inputs if port.constant == edit.constant and port.layout is not None)
    product: np.ndarray = values_of(edit.up).astype(np.float32) @ values_of(edit.down).astype(np.float32)
    return product if layout.channel_axes == (0,) else product.T


def floats_of(adapter: Adapter) -> np.ndarray:
    """The floating-point numbers of a matrix, but for codes."""
    return adapter.on_host().scale if isinstance(adapter, CompressedTensor) else to_host(adapter)


def as_constant(graph: Graph, name: str, adapter: Adapter) -> Constant:
    """A matrix of the branch of a weight, as if it were a constant of the model that nothing takes yet.

    Its element type is that of what the layers give.
    """
    layers = branched_layers(graph, name)
    given = layers[0][0].outputs[0].dtype if layers else None
    dtype = given or graph.constants[name].dtype

    def read() -> np.ndarray:
        return values_of(adapter)

    return Constant(f"{name}/low_rank", dtype, tuple(adapter.shape), read)
