"""Tensors of activations whose channels may be scaled, and are worth it."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from nncf_core.channel_scaling import ChannelScaling, Role, Share, tensors
from nncf_core.contracts import Context
from nncf_core.gates import gate_layers
from nncf_core.graph import Graph, Node, OpKind, Port
from nncf_core.hardware import QuantizationSetup
from nncf_core.transformations import TargetPoint, point_of


@frozen
class Scalable:
    """A tensor of activations whose channels may be scaled.

    :param tensor: its name.
    :param kind: of the operators that take it: convolutions or matrix products.
    :param axis: of the channels.
    :param before: what divides the tensor.
    :param after: what undoes that; nothing where a product has to be inserted for it.
    :param points: where an operator of its own divides the tensor; none when constants do.
    :param behind: number of axes behind that of the channels.
    :param divided: names of the tensors that are divided, where constants do: itself, and those between it and them.
    """

    tensor: str
    kind: OpKind
    axis: int
    before: tuple[Share, ...]
    after: tuple[Share, ...]
    points: tuple[TargetPoint, ...] = ()
    behind: int = 0
    divided: tuple[str, ...] = ()


def find(
    graph: Graph, context: Context, setup: QuantizationSetup, inserting: frozenset[OpKind] = frozenset()
) -> Iterable[Scalable]:
    """Tensors that may be scaled and are worth it, in graph order.

    :param setup: says whose results are quantized, too.
    :param inserting: kinds of layers that get an operator of their own where no constant can divide what they take.
    """
    finder, gates = ChannelScaling(graph, context.ignored), gate_layers(graph)
    results = {op_type for op_type, operator in setup.operators.items() if operator.needs_result}
    for node, port in tensors(graph):
        behind = finder.axes_behind(node, port.tensor)
        if behind is None:
            continue
        kind, axis = (OpKind.CONV, 1) if behind else (OpKind.MATMUL, -1)
        after = finder.after(port.tensor, behind) or ()
        worth_it = any(share.role is Role.INPUTS for share in after)
        if node is not None and node.op_type in results:
            worth_it |= bool(after) or _is_quantized_result(graph, node, port, setup, gates)
        before = finder.before(port.tensor, behind) if worth_it else None
        if before and (after or context.takes_multiplication(point_of(graph, port.tensor))):
            divided = finder.divided(port.tensor, behind)
            yield Scalable(port.tensor, kind, axis, before, after, behind=behind, divided=divided)
        elif kind in inserting:
            points, after = finder.layers(port.tensor, behind, context)
            if points:
                yield Scalable(port.tensor, kind, axis, (), after, points, behind)


def _is_quantized_result(graph: Graph, node: Node, port: Port, setup: QuantizationSetup, gates: frozenset[str]) -> bool:
    """Whether a layer's result is quantized for its own sake, and taken in floating point."""
    constants = [graph.constants[weight.constant] for _, weight in node.weights if weight.constant is not None]
    if setup.whole or not constants or node.name in gates:
        return False
    if not all(setup.pays(node, constant.shape) for constant in constants):
        return False
    known = [setup.of(user) for user in graph.consumers(port.tensor)]
    # a layer takes integers, and so does what alone takes the result, if anything does
    integer = any(user is not None and (user.needs_weight or len(known) == 1) for user in known)
    fused = any(user.op_type in setup.fused for user in graph.consumers(port.tensor))
    return bool(known) and not integer and not fused
