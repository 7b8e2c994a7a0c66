"""onnxruntime's own operators: MatMulNBits for matrix multiplications, GatherBlockQuantized for embeddings.

Both keep codes in blocks along the last axis, whose size is a power of two of at least 16. Other group sizes, and
whole channels, are written exactly with smaller blocks that repeat their group's scale. The codes are unsigned; a
symmetric format's are shifted by half of the range, which is then the zero point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from attrs import frozen

from nncf_core.contracts import CompressionRequest
from nncf_core.errors import InternalError
from nncf_core.graph import Constant, Graph, Node, OpKind
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_onnx.forms.common import Target, scale_in
from nncf_onnx.rewriting import Rewriter

DOMAIN = "com.microsoft"
FORMATS = ("int8", "uint8", "int4", "uint4", "int2")
_SMALLEST = 16


@frozen
class _Blocks:
    """A matrix [rows, columns] in blocks along the columns.

    :param codes: ``uint8``, [rows, blocks, bytes of a block].
    :param scale: float32, [rows, blocks].
    :param zero_point: ``uint8``, packed, [rows, bytes].
    """

    rows: int
    columns: int
    size: int
    bits: int
    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray | None


def refusal(graph: Graph, constant: Constant, request: CompressionRequest) -> str | None:
    """Why these operators cannot hold a constant."""
    if request.format not in FORMATS:
        return f"MatMulNBits knows no {request.format}"
    if constant.dtype not in ("float32", "float16"):
        return f"MatMulNBits knows no {constant.dtype} activations"
    users = replaceable_users(graph, constant)
    if users is None:
        return "MatMulNBits is for a matrix that only MatMul or Gemm use, as second operand and in one orientation"
    layout = users[0].inputs[_operand(users[0])].layout
    assert layout is not None
    columns = constant.shape[layout.reduction_axes[-1]]
    embedding = users[0].kind is OpKind.EMBEDDING
    if embedding and request.format == "int2":
        return "GatherBlockQuantized knows no int2"
    if block_size(columns, request.group_size, exact=embedding) is None:
        return f"onnxruntime's blocks need groups of a multiple of {_SMALLEST}"
    return None


def replaceable_users(graph: Graph, constant: Constant) -> tuple[Node, ...] | None:
    """The operators that take a constant, when all of them can be replaced; ``None`` otherwise.

    They are MatMul and Gemm that all sum over the same axis, also behind transposes that nothing else uses, or
    Gather.
    """
    if len(constant.shape) != 2:
        return None
    found: list[Node] = []
    meanings = set()
    for node, index in graph.users(constant.name):
        if _is_direct_gather(node, index, constant.name) or _is_plain_product(node, index):
            found.append(node)
            meanings.add((node.kind, node.inputs[index].layout))
        elif node.op_type not in ("Transpose", "Identity"):
            return None
    # x·W and x·Wᵀ cannot share blocks
    return tuple(found) if len(meanings) == 1 else None


def _is_direct_gather(node: Node, index: int, constant: str) -> bool:
    port = node.inputs[index]
    return node.op_type == "Gather" and index == 0 and port.layout is not None and port.tensor == constant


def _is_plain_product(node: Node, index: int) -> bool:
    """Whether the node is a product of its activations, as they are, with a weight."""
    if node.op_type not in ("MatMul", "Gemm") or index != 1:
        return False
    layout, shape = node.inputs[1].layout, node.inputs[0].shape
    if layout is None or layout.batch_axes or node.inputs[0].constant is not None:
        return False
    attributes = node.attributes
    factors = (attributes.get("alpha", 1.0), attributes.get("beta", 1.0))
    return factors == (1.0, 1.0) and not attributes.get("transA", 0) and (shape is None or len(shape) >= 2)


def _operand(node: Node) -> int:
    return 0 if node.kind is OpKind.EMBEDDING else 1


def block_size(columns: int, group_size: int, exact: bool) -> int | None:
    """The largest block that lies within groups; ``None`` when there is none.

    :param exact: whether blocks must divide the columns; otherwise the last one of a whole channel is padded.
    """
    length = columns if group_size == -1 else group_size
    sizes = [size for size in (256, 128, 64, 32, 16) if length % size == 0]
    if sizes:
        return sizes[0]
    return 32 if group_size == -1 and not exact else None


def stored_bytes(graph: Graph, constant: Constant, tensor: CompressedTensor) -> int:
    """Bytes of codes, scales and zero points."""
    users = replaceable_users(graph, constant)
    embedding = users is not None and users[0].kind is OpKind.EMBEDDING
    axis, bits = tensor.reduction_axes[-1], tensor.format.bits
    rows, columns = tensor.shape[1 - axis], tensor.shape[axis]
    size = _size_of_blocks(columns, tensor.group_size, embedding)
    count = -(-columns // size)
    half = constant.dtype == "float16" and scale_in(tensor, ir.DataType.FLOAT16) is not None
    zero_points = -(-count * bits // 8) if embedding or tensor.zero_point is not None else 0
    return rows * (count * size * bits // 8 + count * (2 if half else 4) + zero_points)


def emit(
    rewriter: Rewriter, target: Target, tensor: CompressedTensor, users: Sequence[ir.Node], accuracy_level: int
) -> None:
    """Write a constant in this form, and replace its users.

    :param users: the nodes of :func:`replaceable_users`.
    """
    graph, name = rewriter.graph_of(target.value), target.name
    gather = users[0].op_type == "Gather"
    blocks = _blocks(tensor, exact=gather)
    codes = blocks.codes.reshape(blocks.rows, -1) if gather else blocks.codes
    half = target.dtype == ir.DataType.FLOAT16
    # scales that float16 does not hold need activations in float32
    wide = half and scale_in(tensor, ir.DataType.FLOAT16) is None
    scale = blocks.scale.astype(np.float16 if half and not wide else np.float32)
    inputs = [
        rewriter.constant(graph, f"{name}_quantized", ir.Tensor(codes)),
        rewriter.constant(graph, f"{name}_scale", ir.Tensor(scale)),
        None
        if blocks.zero_point is None
        else rewriter.constant(graph, f"{name}_zero_point", ir.Tensor(blocks.zero_point)),
    ]
    for node in users:
        if gather:
            _replace_gather(rewriter, node, inputs, blocks, wide)
        else:
            _replace_matmul(rewriter, node, inputs, blocks, accuracy_level, wide)
    rewriter.drop_constant(target.value)


def _blocks(tensor: CompressedTensor, exact: bool) -> _Blocks:
    axis, bits = tensor.reduction_axes[-1], tensor.format.bits
    rows, columns = tensor.shape[1 - axis], tensor.shape[axis]
    size = _size_of_blocks(columns, tensor.group_size, exact)
    count = -(-columns // size)
    codes = unpack(tensor.codes, bits, tensor.size, tensor.format.signed).reshape(tensor.shape)
    # two's complement plus half of the range, modulo 2^bits
    shift = np.uint8(1 << (bits - 1) if tensor.format.signed else 0)
    matrix = np.full((rows, count * size), shift, np.uint8)
    np.add(np.moveaxis(codes, axis, 1).view(np.uint8), shift, out=matrix[:, :columns])
    repeats = count // (1 if tensor.group_size == -1 else columns // tensor.group_size)
    scale = np.moveaxis(tensor.scale.astype(np.float32), axis, 1).repeat(repeats, axis=1)
    zero_point = None
    if tensor.zero_point is not None:
        zero_point = np.moveaxis(tensor.zero_point, axis, 1).repeat(repeats, axis=1)
    elif exact:
        # written out: the definition of GatherBlockQuantized does not promise half of the range when none is given
        zero_point = np.full(scale.shape, shift, np.uint8)
    return _Blocks(
        rows,
        columns,
        size,
        bits,
        pack(matrix, bits).reshape(rows, count, size * bits // 8),
        np.ascontiguousarray(scale),
        None if zero_point is None else _packed_rows(zero_point, bits),
    )


def _size_of_blocks(columns: int, group_size: int, exact: bool) -> int:
    size = block_size(columns, group_size, exact)
    if size is None:
        raise InternalError(f"Groups of {group_size} in {columns} columns cannot be written in blocks.")
    return size


def _packed_rows(zero_point: np.ndarray, bits: int) -> np.ndarray:
    """Zero points of each row packed on their own, [rows, bytes]."""
    per_byte = 8 // bits
    rows, count = zero_point.shape
    padded = np.zeros((rows, -(-count // per_byte) * per_byte), np.uint8)
    padded[:, :count] = zero_point
    return pack(padded, bits).reshape(rows, -1)


def _replace_matmul(
    rewriter: Rewriter, node: ir.Node, inputs: list[ir.Value | None], blocks: _Blocks, accuracy_level: int, wide: bool
) -> None:
    activations, bias = node.inputs[0], node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    own_bias = not wide and bias is not None and bias.shape is not None and tuple(bias.shape) == (blocks.rows,)
    output = node.outputs[0]
    name = f"{node.name or output.name}_compressed_matmul"
    chain: list[ir.Node] = []
    if wide and activations is not None:
        chain.append(rewriter.cast(activations, ir.DataType.FLOAT, f"{name}_float32"))
        activations = chain[0].outputs[0]
    operands: list[ir.Value | None] = [activations, *inputs]
    if own_bias:
        operands += [None, bias]
    while operands[-1] is None:
        operands.pop()
    attributes = {
        "K": blocks.columns,
        "N": blocks.rows,
        "bits": blocks.bits,
        "block_size": blocks.size,
        "accuracy_level": accuracy_level,
    }
    dtype = ir.DataType.FLOAT if wide else output.dtype
    product = f"{output.name}_product"
    chain.append(rewriter.node("MatMulNBits", operands, name, product, dtype, domain=DOMAIN, attributes=attributes))
    if wide:
        chain.append(rewriter.cast(chain[-1].outputs[0], ir.DataType.FLOAT16, f"{name}_float16"))
    if bias is not None and not own_bias:
        inputs = [chain[-1].outputs[0], bias]
        chain.append(rewriter.node("Add", inputs, f"{name}_bias", f"{output.name}_sum", output.dtype))
    rewriter.take_over_output(node, *chain)


def _replace_gather(
    rewriter: Rewriter, node: ir.Node, inputs: list[ir.Value | None], blocks: _Blocks, wide: bool
) -> None:
    codes, scale, zero_point = inputs
    output = node.outputs[0]
    name = f"{node.name or output.name}_compressed_gather"
    new = rewriter.node(
        "GatherBlockQuantized",
        [codes, node.inputs[1], scale, zero_point],
        name,
        f"{output.name}_gathered",
        ir.DataType.FLOAT if wide else output.dtype,
        domain=DOMAIN,
        attributes={"gather_axis": 0, "quantize_axis": 1, "bits": blocks.bits, "block_size": blocks.size},
    )
    chain = [new, rewriter.cast(new.outputs[0], ir.DataType.FLOAT16, f"{name}_float16")] if wide else [new]
    rewriter.take_over_output(node, *chain)


def undo(rewriter: Rewriter, target: Target, matrix: np.ndarray, users: Sequence[ir.Node]) -> ir.Value:
    """Put MatMul and Gather with a float weight in place of the operators that decompress it.

    :param matrix: the weight, [rows, columns], as it lies in the codes.
    :param users: the operators that take the codes.
    """
    weight: ir.Value | None = None
    for node in users:
        gather = node.op_type == "GatherBlockQuantized"
        if weight is None:
            tensor = ir.Tensor(matrix if gather else np.ascontiguousarray(matrix.T))
            weight = rewriter.constant(rewriter.graph_of(target.value), target.name, tensor)
        output = node.outputs[0]
        label = (node.name or output.name or "").removesuffix("_compressed_matmul").removesuffix("_compressed_gather")
        if gather:
            inputs = [weight, node.inputs[1]]
            gathered = rewriter.node(
                "Gather", inputs, label, f"{output.name}_gathered", output.dtype, attributes={"axis": 0}
            )
            rewriter.take_over_output(node, gathered)
            continue
        product = rewriter.node("MatMul", [node.inputs[0], weight], label, f"{output.name}_product", output.dtype)
        bias = node.inputs[5] if len(node.inputs) > 5 else None
        if bias is None:
            rewriter.take_over_output(node, product)
        else:
            add = rewriter.node("Add", [product.outputs[0], bias], f"{label}_bias", f"{output.name}_sum", output.dtype)
            rewriter.take_over_output(node, product, add)
    if weight is None:
        raise InternalError(f"Nothing takes the codes of {target.name!r}.")
    return weight
