"""Formats that are tables: NF4, FP4, MXFP4, NVFP4 and codebooks, in standard operators.

``codes → Cast(int32) → Gather(table) → Mul(scale) [→ Mul(global scale)] [→ Reshape] [→ Cast]``
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from nncf_core.contracts import CompressionRequest
from nncf_core.numerics.tensor import CompressedTensor
from nncf_onnx.forms.common import Target, index_bits
from nncf_onnx.rewriting import Rewriter, codes_tensor

FORMATS = ("nf4", "f4e2m1", "codebook")
_UINT4_OPSET = 21


def refusal(request: CompressionRequest, opset: int) -> str | None:
    """Why this form cannot hold a constant."""
    if request.format not in FORMATS:
        return f"{request.format} is no table"
    if opset < _UINT4_OPSET:
        return f"{request.format} needs opset {_UINT4_OPSET} for its 4-bit codes, the model has {opset}"
    return None


def stored_bytes(tensor: CompressedTensor) -> int:
    """Bytes of codes, table and scales, which are float32."""
    factors = _table(tensor).size + tensor.scale.size + (tensor.global_scale is not None)
    return tensor.codes.nbytes + 4 * factors


def emit(rewriter: Rewriter, target: Target, tensor: CompressedTensor) -> None:
    """Write a constant in this form; its users then take the looked-up and scaled value."""
    graph = rewriter.graph_of(target.value)
    name, dtype = target.name, target.dtype
    grouped = _grouped_shape(tensor)
    code_dtype = index_bits(tensor.format)
    floating, scale_shape = ir.DataType.FLOAT, _grouped_scale_shape(tensor)
    codes = rewriter.constant(graph, f"{name}_quantized", codes_tensor(tensor.codes, code_dtype, grouped))
    values = rewriter.constant(graph, f"{name}_codebook", ir.Tensor(_table(tensor)))
    scale = tensor.scale.astype(np.float32).reshape(scale_shape)
    scales = rewriter.constant(graph, f"{name}_scale", ir.Tensor(scale))
    index = rewriter.node(
        "Cast",
        [codes],
        f"{name}_Index",
        f"{name}_index",
        ir.DataType.INT32,
        grouped,
        attributes={"to": int(ir.DataType.INT32)},
    )
    nodes = [index]

    def then(op_type: str, inputs: list[ir.Value], label: str, output: str) -> None:
        shape = tensor.shape if op_type in ("Reshape", "Cast") else grouped
        kind = dtype if op_type == "Cast" else floating
        attributes = {"to": int(dtype)} if op_type == "Cast" else {}
        nodes.append(rewriter.node(op_type, inputs, f"{name}_{label}", output, kind, shape, attributes=attributes))

    then("Gather", [values, index.outputs[0]], "Lookup", f"{name}_looked_up")
    then("Mul", [nodes[-1].outputs[0], scales], "DequantizeLinear", f"{name}_dequantized")
    if tensor.global_scale is not None:
        factor = rewriter.constant(
            graph, f"{name}_global_scale", ir.Tensor(np.float32(tensor.global_scale).reshape(()))
        )
        then("Mul", [nodes[-1].outputs[0], factor], "GlobalScale", f"{name}_globally_scaled")
    if grouped != tensor.shape:
        shape = rewriter.constant(graph, f"{name}_shape", ir.Tensor(np.array(tensor.shape, np.int64)))
        then("Reshape", [nodes[-1].outputs[0], shape], "Reshape", f"{name}_reshaped")
    if dtype != floating:
        then("Cast", [nodes[-1].outputs[0]], "Cast", f"{name}_cast")
    rewriter.insert_before_users(target.value, nodes)
    rewriter.replace_uses(target.value, nodes[-1].outputs[0])
    rewriter.drop_constant(target.value)


def _table(tensor: CompressedTensor) -> np.ndarray:
    values = tensor.format.values if tensor.codebook is None else tensor.codebook
    return np.array(values, np.float32)


def _grouped_shape(tensor: CompressedTensor) -> tuple[int, ...]:
    axis = tensor.group_axis
    if axis is None or tensor.group_size == -1:
        return tensor.shape
    count = tensor.shape[axis] // tensor.group_size
    return (*tensor.shape[:axis], count, tensor.group_size, *tensor.shape[axis + 1 :])


def _grouped_scale_shape(tensor: CompressedTensor) -> tuple[int, ...]:
    axis = tensor.group_axis
    if axis is None or tensor.group_size == -1:
        return tensor.scale.shape
    return (*tensor.scale.shape[: axis + 1], 1, *tensor.scale.shape[axis + 1 :])
