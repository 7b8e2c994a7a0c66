"""Whether a graph is one: every input is produced, every tensor is produced once and holds what it should."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

import onnx
import onnx_ir as ir

from nncf_core.errors import UnsupportedModelError
from nncf_onnx.tensor_checks import check_tensor
from nncf_onnx.traversal import CONTROL_FLOW, bodies


def check_structure(proto: onnx.ModelProto, what: str) -> None:
    """Check a model's graph, the bodies of its control-flow nodes, and its functions.

    :param what: name of the model, for messages.
    :raises UnsupportedModelError: naming the node and the tensor.
    """
    _check_graph(proto.graph, what, frozenset())
    for function in proto.functions:
        _check_nodes(function.node, function.input, [], function.output, what, frozenset())


def check_values(graph: ir.Graph, what: str, outer: frozenset[ir.Value] = frozenset()) -> None:
    """The same for a graph in memory: nodes may take only what the graph, or one around it, has.

    :raises UnsupportedModelError: naming the node and the tensor.
    """
    known = outer | {*graph.inputs, *graph.initializers.values(), *(o for node in graph for o in node.outputs)}
    for node in graph:
        for value in node.inputs:
            if value is not None and value not in known:
                _nothing_produces(value.name or "", f"{node.op_type} {node.name!r}", what)
        for body in bodies(node):
            check_values(body, what, known)
    for value in graph.outputs:
        if value not in known:
            _nothing_produces(value.name or "", "the graph's outputs", what)


def _check_graph(graph: onnx.GraphProto, what: str, outer: Set[str]) -> None:
    for sparse in graph.sparse_initializer:
        _no_sparse(sparse.values.name, what)
    for tensor in graph.initializer:
        check_tensor(tensor, tensor.name, what)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_type(value, what)
    inputs = [value.name for value in graph.input]
    outputs = [value.name for value in graph.output]
    _check_nodes(graph.node, inputs, [tensor.name for tensor in graph.initializer], outputs, what, outer)


def _check_nodes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    initializers: Sequence[str],
    outputs: Iterable[str],
    what: str,
    outer: Set[str],
) -> None:
    for kind, names in (("inputs", inputs), ("initializers", initializers)):
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UnsupportedModelError(f"In {what} two {kind} have the name {twice!r}.")
    # an initializer may be the default of an input
    given = {*inputs, *initializers}
    produced: dict[str, str] = {}
    for node in nodes:
        for name in filter(None, node.output):
            if name in produced or name in given:
                other = f"node {produced[name]}" if name in produced else "an input or initializer"
                raise UnsupportedModelError(
                    f"In {what} the tensor {name!r} is produced by {_label(node)} and by {other}."
                )
            produced[name] = _label(node)
    known = outer | given | produced.keys()
    for node in nodes:
        _check_inputs(node.input, known, _label(node), what)
        for attribute in node.attribute:
            _check_attribute(attribute, node, what, known)
    _check_inputs(outputs, known, "the graph's outputs", what)


def _check_attribute(attribute: onnx.AttributeProto, node: onnx.NodeProto, what: str, known: Set[str]) -> None:
    has_bodies = attribute.HasField("g") or len(attribute.graphs) > 0
    if has_bodies and node.domain in ("", "ai.onnx") and node.op_type not in CONTROL_FLOW:
        raise UnsupportedModelError(
            f"In {what} the node {_label(node)} has a body, which is for {', '.join(sorted(CONTROL_FLOW))} only."
        )
    if attribute.HasField("t"):
        check_tensor(attribute.t, attribute.t.name or next(iter(node.output), ""), what)
    elif attribute.HasField("g"):
        _check_graph(attribute.g, what, known)
    elif attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
        _no_sparse(next(iter(node.output), ""), what)
    for tensor in attribute.tensors:
        check_tensor(tensor, tensor.name, what)
    for body in attribute.graphs:
        _check_graph(body, what, known)


def _check_type(value: onnx.ValueInfoProto, what: str) -> None:
    found, kind = value.type, value.type.WhichOneof("value")
    while kind in ("sequence_type", "optional_type"):
        found = getattr(found, kind).elem_type
        kind = found.WhichOneof("value")
    if kind not in (None, "tensor_type"):
        # onnx_ir knows no others
        raise UnsupportedModelError(
            f"In {what} the value {value.name!r} is a {kind.removesuffix('_type').replace('_', ' ')}; only tensors, "
            "sequences and optional values can be processed."
        )


def _check_inputs(names: Iterable[str], known: Set[str], taker: str, what: str) -> None:
    for name in filter(None, names):
        if name not in known:
            _nothing_produces(name, taker, what)


def _nothing_produces(name: str, taker: str, what: str) -> None:
    raise UnsupportedModelError(
        f"In {what} nothing produces {name!r}, which {taker} takes: an initializer or a node is missing."
    )


def _no_sparse(name: str, what: str) -> None:
    # onnx_ir leaves sparse initializers out without a word
    raise UnsupportedModelError(f"In {what} the tensor {name!r} is sparse; make it a dense initializer.")


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else node.op_type
