"""Quantizers of activations: QuantizeLinear and DequantizeLinear one after the other.

Integers are unsigned, as the kernels of onnxruntime for x86 want those of activations.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.numerics.packing import pack
from nncf_core.numerics.quantizer import Quantizer
from nncf_onnx.forms.common import HALF_SCALE_OPSET
from nncf_onnx.rewriting import Rewriter, codes_tensor

_TYPES = {4: ("uint4", 21), 8: ("uint8", 13), 16: ("uint16", 21)}


def nodes(
    rewriter: Rewriter, graph: ir.Graph, value: ir.Value, quantizer: Quantizer, name: str, dtype: ir.DataType
) -> list[ir.Node]:
    """The nodes, not yet in a graph.

    :param dtype: element type of the value.
    :raises ParameterNotSupportedError: when the model's opset does not know integers of so many bits.
    """
    quantizer = quantizer.unsigned()
    type_name, opset = _TYPES.get(quantizer.bits, ("", 0))
    if not type_name or rewriter.opset < opset or quantizer.hi != 2**quantizer.bits - 1:
        raise ParameterNotSupportedError(
            f"A quantizer with integers from 0 to {quantizer.hi} cannot be written with opset {rewriter.opset}; 8 bits "
            "can with any, 4 and 16 bits with opset 21."
        )
    half = dtype == ir.DataType.FLOAT16 and rewriter.opset >= HALF_SCALE_OPSET
    computed = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
    result: list[ir.Node] = []
    source = value
    if computed != dtype:
        result.append(rewriter.cast(source, computed, f"{name}_wide"))
        source = result[-1].outputs[0]
    scale = rewriter.constant(graph, f"{name}_scale", ir.Tensor(quantizer.scale.astype(computed.numpy())))
    codes = pack(quantizer.zero_point.astype(np.uint16 if quantizer.bits == 16 else np.uint8), quantizer.bits)
    zero_point = rewriter.constant(graph, f"{name}_zero_point", codes_tensor(codes, type_name, quantizer.scale.shape))
    attributes = {} if quantizer.axis is None else {"axis": quantizer.axis}
    for op_type, given, kind in (
        ("QuantizeLinear", source, ir.DataType[type_name.upper()]),
        ("DequantizeLinear", None, computed),
    ):
        inputs = [result[-1].outputs[0] if given is None else given, scale, zero_point]
        output = f"{value.name}_{'quantized' if given is not None else 'dequantized'}"
        result.append(rewriter.node(op_type, inputs, f"{name}_{op_type}", output, kind, attributes=attributes))
        result[-1].outputs[0].shape = value.shape
    if computed != dtype:
        result.append(rewriter.cast(result[-1].outputs[0], dtype, f"{name}_narrow"))
    return result
