"""Quantized products in the very forms that onnxruntime computes with integers. No result is changed.

onnxruntime first makes a Gemm of a MatMul and the Add behind it, which has no integer form unless its result is
quantized, too: it is computed in floating point, with weights dequantized each time, at a half to a twentieth of the
speed of the original model. Of tensors with more than two axes it does so where a bias has one dimension; with a bias
of two the product becomes MatMulIntegerToFloat, which takes the bias in. Of matrices it does so whatever is added, but
not where that is written as a Sum. And a Gemm becomes QGemm only where its weight has zero points, be they all zero.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from nncf_onnx.rewriting import Rewriter


def keep_integer_products(model: ir.Model, rewriter: Rewriter) -> None:
    """Bring products of dequantized operands into these forms."""
    for node in model.graph:
        if node.domain != "" or len(node.inputs) < 2:
            continue
        activation, weight = (_dequantized(value) for value in node.inputs[:2])
        if activation is None or weight is None:
            continue
        if node.op_type == "MatMul":
            shape = node.inputs[0].shape if node.inputs[0] is not None else None
            if shape is not None and len(shape) > 2:
                _widen_bias(node)
            else:
                _write_as_sum(node)
        elif node.op_type == "Gemm":
            _give_zero_points(weight, rewriter)


def _write_as_sum(node: ir.Node) -> None:
    for usage in node.outputs[0].uses():
        if usage.node.op_type == "Add" and usage.node.domain == "":
            usage.node.op_type = "Sum"


def _widen_bias(node: ir.Node) -> None:
    users = list(node.outputs[0].uses())
    if len(users) != 1 or users[0].node.op_type != "Add" or node.outputs[0].is_graph_output():
        return
    bias = users[0].node.inputs[1 - users[0].idx]
    if bias is None or not bias.is_initializer() or bias.is_graph_input() or bias.is_graph_output():
        return
    tensor = bias.const_value
    if tensor is None or len(tensor.shape) != 1 or len(list(bias.uses())) != 1:
        return
    row = tensor.numpy().reshape(1, -1)
    bias.const_value = ir.Tensor(row, name=bias.name)
    bias.shape = ir.Shape(row.shape)


def _give_zero_points(node: ir.Node, rewriter: Rewriter) -> None:
    codes, scale = node.inputs[0], node.inputs[1]
    if len(node.inputs) != 2 or codes is None or scale is None or scale.const_value is None:
        return
    if codes.const_value is None or codes.const_value.dtype != ir.DataType.INT8:
        return
    zeros = np.zeros(scale.const_value.shape.numpy(), np.int8)
    name = (codes.name or "weight").removesuffix("_quantized")
    zero_point = rewriter.constant(rewriter.graph_of(codes), f"{name}_zero_point", ir.Tensor(zeros))
    node.resize_inputs(3)
    node.replace_input_with(2, zero_point)


def _dequantized(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear that gives a value."""
    producer = None if value is None else value.producer()
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None
