"""Quantizers of activations: QuantizeLinear and DequantizeLinear one after the other.

Integers of other than 8 and 16 bits are some of those of 8, to which a Clip between the two keeps. So runtimes compute
with them as they do with all of 8 bits, which they do with no fewer.

Where the opset can say the type of the result, zero points of zero are left out: seeing one of an 8-bit float,
onnxruntime 1.32 drops a Relu before it, as if below zero there were no floats, and one of int8 it takes for uint8
behind what moves elements.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.numerics.quantizer import Quantizer
from nncf_onnx.forms.common import CODE_DTYPES, HALF_SCALE_OPSET
from nncf_onnx.rewriting import Rewriter

_OUTPUT_DTYPE_OPSET = 21
"""First opset whose QuantizeLinear says the type of its result."""

_OPSETS = {"int8": 13, "uint8": 13, "int16": 21, "uint16": 21}
"""First opset whose QuantizeLinear and DequantizeLinear know integers."""


def nodes(
    rewriter: Rewriter, graph: ir.Graph, value: ir.Value, quantizer: Quantizer, name: str, dtype: ir.DataType
) -> list[ir.Node]:
    """The nodes, not yet in a graph.

    :param dtype: element type of the value.
    :raises ParameterNotSupportedError: when the model's opset does not know integers of so many bits.
    """
    clip = None
    if quantizer.float8 is None and quantizer.bits < 8:
        kind_of_bounds = "int8" if quantizer.lo < 0 else "uint8"
        clip = [np.array(bound, kind_of_bounds) for bound in (quantizer.lo, quantizer.hi)]
        quantizer = quantizer.in_8_bits()
    type_name = _element_type(quantizer, rewriter.opset)
    # smaller scales lose precision in float16, or vanish
    fits = (quantizer.scale >= np.finfo(np.float16).tiny).all()
    half = dtype == ir.DataType.FLOAT16 and rewriter.opset >= HALF_SCALE_OPSET and fits
    computed = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
    result: list[ir.Node] = []
    source = value
    if computed != dtype:
        result.append(rewriter.cast(source, computed, f"{name}_wide"))
        source = result[-1].outputs[0]
    scale = rewriter.constant(graph, f"{name}_scale", ir.Tensor(quantizer.scale.astype(computed.numpy())))
    axis = {} if quantizer.axis is None else {"axis": quantizer.axis}
    kind = ir.DataType.from_numpy(np.dtype(type_name))
    said: dict[str, int] = {}
    zero_points = []
    if quantizer.lo < 0 and not quantizer.zero_point.any() and rewriter.opset >= _OUTPUT_DTYPE_OPSET:
        said = {"output_dtype": int(kind)}
    else:
        zero_points = [rewriter.constant(graph, f"{name}_zero_point", _zero_point(quantizer, type_name))]
    for op_type, given, attributes in (
        ("QuantizeLinear", kind, {**axis, **said}),
        ("DequantizeLinear", computed, axis),
    ):
        inputs = [source, scale, *zero_points]
        output = f"{value.name}_{op_type.removesuffix('Linear').lower()}d"
        result.append(rewriter.node(op_type, inputs, f"{name}_{op_type}", output, given, attributes=attributes))
        source = result[-1].outputs[0]
        source.shape = value.shape
        if clip is not None and op_type == "QuantizeLinear":
            bounds = [
                rewriter.constant(graph, f"{name}_{end}", ir.Tensor(bound))
                for end, bound in zip(("smallest", "largest"), clip, strict=True)
            ]
            result.append(rewriter.node("Clip", [source, *bounds], f"{name}_Clip", f"{value.name}_clipped", kind))
            source = result[-1].outputs[0]
            source.shape = value.shape
    if computed != dtype:
        result.append(rewriter.cast(source, dtype, f"{name}_narrow"))
    return result


def _element_type(quantizer: Quantizer, opset: int) -> str:
    if quantizer.float8 is not None:
        if opset < _OUTPUT_DTYPE_OPSET:
            raise ParameterNotSupportedError(
                f"8-bit floats of activations need opset {_OUTPUT_DTYPE_OPSET}, the model has {opset}. Convert it: "
                f"onnx.version_converter.convert_version(model, {_OUTPUT_DTYPE_OPSET})."
            )
        return CODE_DTYPES[quantizer.float8][0]
    needed = _OPSETS.get(quantizer.format, opset + 1)
    if opset < needed or quantizer.levels != 2**quantizer.bits:
        raise ParameterNotSupportedError(
            f"A quantizer with integers from {quantizer.lo} to {quantizer.hi} cannot be written with opset {opset}; up "
            "to 8 bits can with any, 16 bits with opset 21."
        )
    return quantizer.format


def _zero_point(quantizer: Quantizer, type_name: str) -> ir.TensorProtocol:
    return ir.Tensor(quantizer.zero_point.astype(type_name))
