"""DequantizeLinear before the operator: INT8, INT4, INT2 and FP8, per channel or in groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from nncf_core.contracts import CompressionRequest
from nncf_core.numerics.packing import pack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_onnx.forms.common import BLOCKED_OPSET, CODE_DTYPES, HALF_SCALE_OPSET, Target, scale_in
from nncf_onnx.rewriting import Rewriter, codes_tensor


def refusal(request: CompressionRequest, opset: int) -> str | None:
    """Why this form cannot hold a constant."""
    known = CODE_DTYPES.get(request.format)
    if known is None:
        return f"DequantizeLinear knows no {request.format}"
    needed = known[1] if request.group_size == -1 else max(known[1], BLOCKED_OPSET)
    if opset >= needed:
        return None
    grouped = "" if request.group_size == -1 else " in groups"
    return f"{request.format}{grouped} needs opset {needed}, the model has {opset}"


def fits_arithmetic(request: CompressionRequest) -> bool:
    """Whether Cast, Sub and Mul can hold a constant: codes of a byte, without groups."""
    return request.group_size == -1 and request.format in ("int8", "uint8", "f8e4m3")


def stored_bytes(tensor: CompressedTensor, dtype: str, opset: int, *, arithmetic: bool = False) -> int:
    """Bytes of codes, scales and zero points; the scales have the type that the node computes in.

    :param dtype: element type that the users expect.
    :param arithmetic: whether single operators stand for DequantizeLinear.
    """
    scale = _scale(tensor, ir.DataType.from_numpy(np.dtype(dtype)), opset)
    if tensor.zero_point is not None and (arithmetic or _granularity(tensor, opset) is None):
        return tensor.codes.nbytes + scale.nbytes + tensor.zero_point.size * scale.itemsize
    return tensor.nbytes - tensor.scale.nbytes + scale.nbytes


def emit(rewriter: Rewriter, target: Target, tensor: CompressedTensor, *, arithmetic: bool = False) -> None:
    """Write a constant in this form; its users then take the dequantized value.

    :param arithmetic: whether single operators stand for DequantizeLinear, as they do where it has no such scales.
    """
    made = nodes(rewriter, rewriter.graph_of(target.value), target.name, tensor, target.dtype, arithmetic=arithmetic)
    rewriter.insert_before_users(target.value, made)
    rewriter.replace_uses(target.value, made[-1].outputs[0])
    rewriter.drop_constant(target.value)


def nodes(
    rewriter: Rewriter,
    graph: ir.Graph,
    name: str,
    tensor: CompressedTensor,
    dtype: ir.DataType,
    *,
    arithmetic: bool = False,
) -> list[ir.Node]:
    """What decompresses a constant, not yet in a graph; the last node gives the values.

    :param dtype: element type of the values.
    """
    code_dtype, _ = CODE_DTYPES[tensor.format.name]
    scale = _scale(tensor, dtype, rewriter.opset)
    computed = ir.DataType.FLOAT16 if scale.dtype == np.float16 else ir.DataType.FLOAT
    codes = rewriter.constant(graph, f"{name}_quantized", codes_tensor(tensor.codes, code_dtype, tensor.shape))
    granularity = None if arithmetic else _granularity(tensor, rewriter.opset)
    if granularity is None:
        made = _arithmetic(rewriter, graph, name, codes, tensor, scale)
    else:
        made = [_node(rewriter, graph, name, codes, tensor, scale, computed, *granularity)]
    if computed != dtype:
        cast = rewriter.node(
            "Cast",
            made[-1].outputs,
            f"{name}_Cast",
            f"{name}_cast",
            dtype,
            tensor.shape,
            attributes={"to": int(dtype)},
        )
        made.append(cast)
    return made


def _scale(tensor: CompressedTensor, dtype: ir.DataType, opset: int) -> np.ndarray:
    scale = scale_in(tensor, dtype) if opset >= HALF_SCALE_OPSET or dtype == ir.DataType.FLOAT else None
    return tensor.scale.astype(np.float32) if scale is None else scale


def _granularity(tensor: CompressedTensor, opset: int) -> tuple[dict[str, int], tuple[int, ...]] | None:
    """Attributes of the node and shape of the scales; ``None`` when DequantizeLinear has no such scales."""
    if tensor.group_axis is not None and tensor.group_size != -1:
        return {"axis": tensor.group_axis, "block_size": tensor.group_size}, tensor.scale.shape
    axes = [axis for axis in range(len(tensor.shape)) if axis not in tensor.reduction_axes]
    varying = [axis for axis in axes if tensor.shape[axis] != 1] or axes[:1]
    if not varying:
        return {}, ()
    if len(varying) == 1:
        return {"axis": varying[0]}, (tensor.shape[varying[0]],)
    shared = [axis for axis in tensor.reduction_axes if tensor.shape[axis] != 1] or [tensor.reduction_axes[-1]]
    if len(shared) > 1 or opset < BLOCKED_OPSET:
        return None
    # one group as long as the axis: scales may then differ along all others
    return {"axis": shared[0], "block_size": tensor.shape[shared[0]]}, tensor.scale.shape


def _node(
    rewriter: Rewriter,
    graph: ir.Graph,
    name: str,
    codes: ir.Value,
    tensor: CompressedTensor,
    scale: np.ndarray,
    dtype: ir.DataType,
    attributes: dict[str, int],
    shape: Sequence[int],
) -> ir.Node:
    inputs = [codes, rewriter.constant(graph, f"{name}_scale", ir.Tensor(scale.reshape(shape)))]
    if tensor.zero_point is not None:
        bits, code_dtype = tensor.format.bits, CODE_DTYPES[tensor.format.name][0]
        zero_point = codes_tensor(pack(tensor.zero_point, bits), code_dtype, shape)
        inputs.append(rewriter.constant(graph, f"{name}_zero_point", zero_point))
    return rewriter.node(
        "DequantizeLinear",
        inputs,
        f"{name}_DequantizeLinear",
        f"{name}_dequantized",
        dtype,
        tensor.shape,
        attributes=attributes,
    )


def _arithmetic(
    rewriter: Rewriter,
    graph: ir.Graph,
    name: str,
    codes: ir.Value,
    tensor: CompressedTensor,
    scale: np.ndarray,
) -> list[ir.Node]:
    """``(codes - zero_point) · scale`` in single operators."""
    dtype = ir.DataType.FLOAT16 if scale.dtype == np.float16 else ir.DataType.FLOAT
    nodes = [
        rewriter.node(
            "Cast", [codes], f"{name}_Codes", f"{name}_codes", dtype, tensor.shape, attributes={"to": int(dtype)}
        )
    ]
    if tensor.zero_point is not None:
        zero_point = rewriter.constant(graph, f"{name}_zero_point", ir.Tensor(tensor.zero_point.astype(scale.dtype)))
        inputs = [nodes[-1].outputs[0], zero_point]
        nodes.append(rewriter.node("Sub", inputs, f"{name}_Subtract", f"{name}_centred", dtype, tensor.shape))
    inputs = [nodes[-1].outputs[0], rewriter.constant(graph, f"{name}_scale", ir.Tensor(scale))]
    nodes.append(rewriter.node("Mul", inputs, f"{name}_DequantizeLinear", f"{name}_dequantized", dtype, tensor.shape))
    return nodes
