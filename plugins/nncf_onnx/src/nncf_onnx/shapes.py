"""Shapes of tensors that a model does not state, or no longer."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from nncf_core.graph import Graph
from nncf_core.log import nncf_logger
from nncf_onnx.graph_building import build
from nncf_onnx.saving import without_large


def shaped(model: ir.Model, graph: Graph) -> Graph:
    """The graph with the shapes of all tensors that onnx can tell; ``model`` is not changed.

    What the model states is taken where nothing follows from its inputs: of models whose inputs were given other
    lengths, the rest still states the old ones.
    """
    found = from_inputs(model)
    static = all(isinstance(dim, int) for value in model.graph.inputs for dim in value.shape or (None,))
    copy = model.clone()
    for node in copy.graph:
        for output in node.outputs:
            dims, stated = found.get(output.name or ""), output.shape
            if dims is None:
                continue
            if static and stated is not None and len(stated) == len(dims):
                sizes = [size if isinstance(size, int) else None for size in stated]
                dims = [dim if isinstance(dim, int) else size for dim, size in zip(dims, sizes, strict=True)]
            output.shape = ir.Shape(dims)
    return build(copy)


def forget(model: ir.Model) -> frozenset[str]:
    """Remove the shapes of tensors between the nodes of the main graph; gives their names."""
    found = set()
    for node in model.graph:
        for output in node.outputs:
            if output.shape is not None and output.const_value is None and not output.is_graph_output():
                output.shape = None
                found.add(output.name or "")
    return frozenset(found)


def infer(model: ir.Model, names: frozenset[str]) -> None:
    """Give tensors of the main graph that have no shape one, as far as onnx can tell.

    :param names: of the tensors.
    """
    known = _inferred(model)
    for node in model.graph:
        for output in node.outputs:
            kind = known.get(output.name or "")
            if output.shape is not None or kind is None or not kind.HasField("shape") or output.name not in names:
                continue
            output.shape = ir.Shape(_dims(kind))
            if output.dtype is None and kind.elem_type:
                output.dtype = ir.DataType(kind.elem_type)


def from_inputs(model: ir.Model) -> dict[str, list[int | str | None]]:
    """The shapes that follow from the inputs, whatever the model states of other tensors."""
    known = _inferred(model, anew=True)
    return {name: _dims(kind) for name, kind in known.items() if kind.HasField("shape")}


def _inferred(model: ir.Model, *, anew: bool = False) -> dict[str, onnx.TypeProto.Tensor]:
    with without_large(model):
        proto = ir.to_proto(model)
    if anew:
        _forget_stated(proto.graph, main=True)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # its own have no common public base
        nncf_logger.debug("Shapes were not inferred: %s", error)
        return {}
    return {info.name: info.type.tensor_type for info in (*inferred.graph.value_info, *inferred.graph.output)}


def _forget_stated(graph: onnx.GraphProto, *, main: bool) -> None:
    """Remove shapes of all but constants and the inputs of the model, in bodies, too."""
    constants = {tensor.name for tensor in graph.initializer}
    for info in (*graph.value_info, *graph.output, *(() if main else graph.input)):
        if info.name not in constants and info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                _forget_stated(body, main=False)


def _dims(kind: onnx.TypeProto.Tensor) -> list[int | str | None]:
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in kind.shape.dim]
