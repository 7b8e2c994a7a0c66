"""Which form a compressed weight gets."""

from __future__ import annotations

from enum import Enum

from nncf_core.contracts import CompressionRequest
from nncf_core.graph import Constant, Graph, OpKind
from nncf_core.numerics.tensor import CompressedTensor
from nncf_onnx.forms import codebook, dequantize_linear, nbits, rows
from nncf_onnx.forms.common import CODE_DTYPES
from nncf_onnx.options import WriteOptions

_REMEDY = (
    "Convert the model: onnx.version_converter.convert_version(model, {opset}), or choose a format that the opset "
    "knows, such as int8_asym"
)


class Form(Enum):
    """The forms."""

    DEQUANTIZE_LINEAR = "DequantizeLinear"
    ARITHMETIC = "arithmetic"
    ROWS = "rows"
    CODEBOOK = "table"
    NBITS = "MatMulNBits"


def choose(
    graph: Graph, constant: Constant, request: CompressionRequest, options: WriteOptions
) -> tuple[Form | None, str]:
    """The form of a constant, or ``None`` and why there is none."""
    opset = _opset(graph)
    if request.format in codebook.FORMATS:
        reason = codebook.refusal(request, opset)
        return (Form.CODEBOOK, "") if reason is None else (None, f"{reason}. {_REMEDY.format(opset=21)}.")
    standard = dequantize_linear.refusal(request, opset)
    own = nbits.refusal(graph, constant, request)
    if options.weight_format == "matmul_nbits" and own is None:
        return Form.NBITS, ""
    if options.weight_format != "dequantize_linear" and rows.holds(graph, constant, request):
        return Form.ROWS, ""
    if standard is None:
        # onnxruntime's recurrent operators prepare constant weights once; it folds operators, but not DequantizeLinear
        folded = options.weight_format != "dequantize_linear" and _is_recurrent(graph, constant)
        arithmetic = folded and dequantize_linear.fits_arithmetic(request)
        return Form.ARITHMETIC if arithmetic else Form.DEQUANTIZE_LINEAR, ""
    if options.weight_format == "auto" and own is None:
        return Form.NBITS, ""
    return None, _explain(request, standard, own)


def refusal(graph: Graph, constant: Constant, request: CompressionRequest, options: WriteOptions) -> str | None:
    """Why no form can hold a constant, with what would work."""
    form, reason = choose(graph, constant, request, options)
    return None if form is not None else reason


def stored_bytes(graph: Graph, constant: Constant, tensor: CompressedTensor, options: WriteOptions) -> int:
    """Bytes that a compressed constant takes in its form."""
    form, _ = choose(graph, constant, request_for(tensor), options)
    if form is Form.CODEBOOK:
        return codebook.stored_bytes(tensor)
    if form is Form.NBITS:
        return nbits.stored_bytes(graph, constant, tensor)
    if form is Form.ROWS:
        return rows.stored_bytes(tensor, constant.dtype)
    return dequantize_linear.stored_bytes(tensor, constant.dtype, _opset(graph), arithmetic=form is Form.ARITHMETIC)


def _is_recurrent(graph: Graph, constant: Constant) -> bool:
    users = graph.users(constant.name)
    return bool(users) and all(node.kind is OpKind.RECURRENT for node, _ in users)


def _opset(graph: Graph) -> int:
    opset = graph.properties["opset"]
    assert isinstance(opset, int)
    return opset


def request_for(tensor: CompressedTensor) -> CompressionRequest:
    """The request that a compressed tensor answers."""
    return CompressionRequest("", tensor.format.name, tensor.group_axis, tensor.group_size)


def _explain(request: CompressionRequest, standard: str, own: str | None) -> str:
    parts = [standard[0].upper() + standard[1:]]
    if own is not None:
        parts.append(own)
    text = ", and ".join(parts) + "."
    if request.format not in CODE_DTYPES:
        return f"{text} Choose another format, such as int4_sym or int8_asym."
    opset = CODE_DTYPES[request.format][1]
    # activations in 8-bit floats need 21, too
    opset = max(opset, 21) if request.group_size != -1 or request.format.startswith("f8") else opset
    hint = f"{text} {_REMEDY.format(opset=opset)}."
    return f"{hint} Or pass backend_params={{'weight_format': 'auto'}}." if own is None else hint
