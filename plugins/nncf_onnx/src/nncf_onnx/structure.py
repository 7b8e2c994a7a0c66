"""Whether a graph is one: every input is produced, every tensor is produced once."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from nncf_core.errors import UnsupportedModelError


def check_structure(graph: onnx.GraphProto, what: str, outer: frozenset[str] = frozenset()) -> None:
    """Check a graph and, recursively, the bodies of its control-flow nodes.

    :param what: name of the model, for messages.
    :param outer: tensors of the enclosing graphs.
    :raises UnsupportedModelError: naming the node and the tensor.
    """
    given = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    given |= {tensor.values.name for tensor in graph.sparse_initializer}
    produced: dict[str, str] = {}
    for node in graph.node:
        for name in filter(None, node.output):
            if name in produced or name in given:
                other = f"node {produced[name]}" if name in produced else "an input or initializer"
                raise UnsupportedModelError(
                    f"In {what} the tensor {name!r} is produced by {_label(node)} and by {other}."
                )
            produced[name] = _label(node)
    known = outer | given | produced.keys()
    for node in graph.node:
        _check_inputs(node.input, known, _label(node), what)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                check_structure(body, what, frozenset(known))
    _check_inputs((value.name for value in graph.output), known, "the graph's outputs", what)


def _check_inputs(names: Iterable[str], known: Iterable[str], taker: str, what: str) -> None:
    for name in filter(None, names):
        if name not in known:
            raise UnsupportedModelError(
                f"In {what} nothing produces {name!r}, which {taker} takes: an initializer or a node is missing."
            )


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else node.op_type
