"""What depends on constants alone, computed: exporters leave reshaped biases and products of numbers in the graph."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from nncf_core.log import nncf_logger
from nncf_onnx.plain_constants import tensor_of
from nncf_onnx.rewriting import Rewriter

_LEFT = frozenset(
    {
        # compressed weights
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
        # different each time
        "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout",
        # larger than what they are made of
        "Expand", "Tile", "ConstantOfShape", "Range", "Pad", "Resize", "Upsample", "EyeLike", "OneHot", "MatMul",
        # bodies
        "If", "Loop", "Scan", "SequenceMap",
    }
)  # fmt: skip
_SMALL = 1 << 16
"""Bytes of constants that may exist twice: once for the nodes that are computed, once for those that stay."""


def fold_constants(model: ir.Model, rewriter: Rewriter) -> int:
    """Compute nodes of the main graph; gives how many went."""
    chosen = _chosen(model.graph)
    results = [
        output for node in chosen for output in node.outputs if any(use.node not in chosen for use in output.uses())
    ]
    if not results:
        return 0
    try:
        tensors = _computed(model, list(chosen), results)
    except Exception as error:  # onnxruntime's own have no common public base
        nncf_logger.debug("Constants were not folded: %s", error)
        return 0
    given = {value for node in chosen for value in node.inputs if value is not None}
    if sum(tensor.nbytes for tensor in tensors) > _SMALL + sum(
        tensor.nbytes for tensor in map(tensor_of, given) if tensor is not None
    ):
        return 0
    for value, tensor in zip(results, tensors, strict=True):
        constant = rewriter.constant(model.graph, f"{value.name}_constant", tensor)
        rewriter.replace_uses(value, constant)
    for node in reversed(list(chosen)):
        rewriter.drop(node)
    return len(chosen)


def _chosen(graph: ir.Graph) -> dict[ir.Node, None]:
    """Nodes whose inputs are constants, or outputs of such nodes, in the order of the graph."""
    chosen: dict[ir.Node, None] = {}
    for node in graph:
        inputs = [value for value in node.inputs if value is not None]
        if node.domain != "" or node.op_type in _LEFT or not inputs:
            continue
        if any(output.is_graph_output() for output in node.outputs):
            continue
        # numbers of half the size, which are cast, stay as they are stored
        alone = node.op_type != "Cast"
        if all(value.producer() in chosen or _is_cheap(value, alone) for value in inputs):
            chosen[node] = None
    return chosen


def _is_cheap(value: ir.Value, alone: bool) -> bool:
    """Whether a constant is small, or, where that is enough, taken by one node alone."""
    tensor = tensor_of(value)
    return tensor is not None and (tensor.nbytes <= _SMALL or (alone and len(value.uses()) == 1))


def _computed(model: ir.Model, nodes: list[ir.Node], results: list[ir.Value]) -> list[ir.TensorProtocol]:
    """Values of what nodes without inputs give, by onnxruntime."""
    import onnxruntime

    own = {output for node in nodes for output in node.outputs}
    given = {value for node in nodes for value in node.inputs if value is not None and value not in own}
    graph = onnx.GraphProto(name="constants", node=[ir.to_proto(node) for node in nodes])
    for value in sorted(given, key=lambda value: value.name or ""):
        tensor = tensor_of(value)
        assert tensor is not None
        graph.initializer.append(ir.to_proto(ir.Tensor(tensor.numpy(), name=value.name)))
    graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in results)
    opsets = [onnx.OperatorSetIdProto(domain="", version=model.graph.opset_imports[""])]
    proto = onnx.ModelProto(ir_version=model.ir_version, graph=graph, opset_import=opsets)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [ir.Tensor(array) for array in session.run(None, {})]
