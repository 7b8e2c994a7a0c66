"""Carrying out transformations one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.graph import Graph
from nncf_core.transformations import (
    CompressConstant,
    InsertMultiply,
    PointKind,
    ReplaceConstant,
    Transformation,
)
from nncf_onnx.choice import Form, choose, request_for
from nncf_onnx.forms import codebook, dequantize_linear, nbits
from nncf_onnx.forms.common import Target
from nncf_onnx.naming import named_constants, named_nodes
from nncf_onnx.options import WriteOptions
from nncf_onnx.rewriting import Rewriter


def apply(model: ir.Model, graph: Graph, transformations: Iterable[Transformation], options: WriteOptions) -> ir.Model:
    """Change a model in place, see :meth:`nncf_core.contracts.TargetPointInserter.apply`."""
    nodes, constants, rewriter = named_nodes(model), named_constants(model), Rewriter(model)
    for transformation in transformations:
        if isinstance(transformation, InsertMultiply):
            _multiply(rewriter, nodes, transformation)
            continue
        name = transformation.constant
        if name not in constants or name not in graph.constants:
            raise ValidationError(f"The model has no constant {name!r}.")
        target = Target(name, constants.pop(name))
        if isinstance(transformation, CompressConstant):
            _compress(rewriter, nodes, graph, target, transformation, options)
        else:
            constants[name] = _replace(rewriter, target, transformation)
    return model


def _compress(
    rewriter: Rewriter,
    nodes: Mapping[str, ir.Node],
    graph: Graph,
    target: Target,
    command: CompressConstant,
    options: WriteOptions,
) -> None:
    tensor, constant = command.tensor, graph.constants[target.name]
    if tensor.shape != constant.shape:
        raise ValidationError(f"The constant {target.name!r} has shape {constant.shape}, its codes {tensor.shape}.")
    form, reason = choose(graph, constant, request_for(tensor), options)
    if form is Form.NBITS and not nbits.fits(tensor, target.dtype):
        # scales that float16 does not hold: only float32 activations could take them
        form, reason = choose(graph, constant, request_for(tensor), WriteOptions("dequantize_linear"))
    if form is Form.DEQUANTIZE_LINEAR:
        dequantize_linear.emit(rewriter, target, tensor)
    elif form is Form.CODEBOOK:
        codebook.emit(rewriter, target, tensor)
    elif form is Form.NBITS:
        users = nbits.replaceable_users(graph, constant) or ()
        nbits.emit(rewriter, target, tensor, [nodes[user.name] for user in users], options.accuracy_level)
    else:
        raise ParameterNotSupportedError(f"The constant {target.name!r} cannot be compressed: {reason}")


def _replace(rewriter: Rewriter, target: Target, command: ReplaceConstant) -> ir.Value:
    """New float values; what decompressed the old ones goes away."""
    old, value = target.value, command.value
    dtype = target.dtype
    codes_of_operator = [use for use in old.uses() if use.node.domain == nbits.DOMAIN]
    if codes_of_operator:
        return _replace_codes(rewriter, target, value, [use.node for use in codes_of_operator])
    if old.const_value is not None and tuple(old.const_value.shape) != value.shape:
        raise ValidationError(
            f"The new values of {target.name!r} have shape {value.shape}, not {old.const_value.shape}."
        )
    graph = rewriter.graph_of(old)
    cast = _cast_after(old)
    if cast is not None:
        # the decompressed value was cast to the element type that users expect
        old, dtype = cast.outputs[0], cast.outputs[0].dtype or dtype
    new = rewriter.constant(graph, target.name, ir.Tensor(value.astype(dtype.numpy())))
    rewriter.replace_uses(old, new)
    rewriter.drop_constant(old)
    return new


def _cast_after(value: ir.Value) -> ir.Node | None:
    """The Cast that ends the decompression of a compressed value."""
    users = list(value.uses())
    if value.producer() is None or value.producer().op_type == "Constant" or len(users) != 1:  # type: ignore[union-attr]
        return None
    return users[0].node if users[0].node.op_type == "Cast" else None


def _replace_codes(rewriter: Rewriter, target: Target, value: np.ndarray, users: list[ir.Node]) -> ir.Value:
    """MatMul and Gather in place of operators that decompress their own codes; values are [rows, columns]."""
    graph = rewriter.graph_of(target.value)
    new: ir.Value | None = None
    for node in users:
        gather = node.op_type == "GatherBlockQuantized"
        dtype = node.inputs[2].dtype or ir.DataType.FLOAT  # type: ignore[union-attr]
        if new is None:
            array = value if gather else np.ascontiguousarray(value.T)
            new = rewriter.constant(graph, target.name, ir.Tensor(array.astype(dtype.numpy())))
        output = node.outputs[0]
        label = (node.name or output.name or "").removesuffix("_compressed_matmul").removesuffix("_compressed_gather")
        if gather:
            gathered = rewriter.node(
                "Gather", [new, node.inputs[1]], label, f"{output.name}_g", output.dtype, attributes={"axis": 0}
            )
            rewriter.take_over_output(node, gathered)
            continue
        product = rewriter.node("MatMul", [node.inputs[0], new], label, f"{output.name}_p", output.dtype)
        bias = node.inputs[5] if len(node.inputs) > 5 else None
        if bias is None:
            rewriter.take_over_output(node, product)
        else:
            add = rewriter.node("Add", [product.outputs[0], bias], f"{label}_bias", f"{output.name}_s", output.dtype)
            rewriter.take_over_output(node, product, add)
    assert new is not None
    return new


def _multiply(rewriter: Rewriter, nodes: Mapping[str, ir.Node], command: InsertMultiply) -> None:
    point = command.target
    node = nodes.get(point.node)
    ports = () if node is None else node.inputs if point.kind is PointKind.INPUT else node.outputs
    if node is None or point.port >= len(ports) or ports[point.port] is None:
        raise ValidationError(f"The model has no point {point}.")
    value = ports[point.port]
    assert value is not None
    if node.graph is None or not isinstance(node.graph, ir.Graph):
        raise ValidationError(f"The point {point} lies in no graph.")
    dtype = value.dtype or ir.DataType.FLOAT
    name = command.name or f"{point.node}/multiply"
    factor = rewriter.constant(node.graph, f"{name}/factor", ir.Tensor(command.factor.astype(dtype.numpy())))
    new = rewriter.node("Mul", [value, factor], name, f"{value.name}_multiplied", value.dtype)
    new.outputs[0].shape = value.shape
    if point.kind is PointKind.INPUT:
        node.graph.insert_before(node, new)
        node.replace_input_with(point.port, new.outputs[0])
        return
    node.graph.insert_after(node, new)
    output = new.outputs[0]
    if value.is_graph_output():
        # the model's output keeps its name
        value.name, output.name = output.name, value.name
    users = [use for use in value.uses() if use.node is not new]
    for use in users:
        use.node.replace_input_with(use.idx, output)
    outputs = node.graph.outputs
    for index, existing in enumerate(outputs):
        if existing is value:
            outputs[index] = output
