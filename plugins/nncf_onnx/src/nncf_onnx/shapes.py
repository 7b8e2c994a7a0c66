"""Shapes of tensors that a model does not state, or no longer."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from nncf_core.graph import Graph
from nncf_core.log import nncf_logger
from nncf_onnx.graph_building import build
from nncf_onnx.saving import without_large


def shaped(model: ir.Model, graph: Graph) -> Graph:
    """The graph with the shapes of all tensors that onnx can tell; ``model`` is not changed."""
    if all(output.shape is not None for node in model.graph for output in node.outputs):
        return graph
    copy = model.clone()
    infer(copy)
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


def infer(model: ir.Model, names: frozenset[str] | None = None) -> None:
    """Give tensors of the main graph that have no shape one, as far as onnx can tell.

    :param names: of the tensors; by default all.
    """
    with without_large(model):
        proto = ir.to_proto(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # its own have no common public base
        nncf_logger.debug("Shapes were not inferred: %s", error)
        return
    infos = (*inferred.graph.value_info, *inferred.graph.output)
    known = {info.name: info.type.tensor_type for info in infos}
    for node in model.graph:
        for output in node.outputs:
            kind = known.get(output.name or "")
            if output.shape is not None or kind is None or not kind.HasField("shape"):
                continue
            if names is not None and output.name not in names:
                continue
            dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in kind.shape.dim]
            output.shape = ir.Shape(dims)
            if output.dtype is None and kind.elem_type:
                output.dtype = ir.DataType(kind.elem_type)
