"""Reading the codes of onnxruntime's MatMulNBits and GatherBlockQuantized."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import WeightLayout
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_onnx.forms.compressed import CompressedConstant, bytes_of, constant_input, integer, original_name
from nncf_onnx.traversal import dims

OPERATORS = ("MatMulNBits", "GatherBlockQuantized")
_DEFAULT_BLOCK = 128


def nbits(node: ir.Node) -> tuple[ir.Value, CompressedConstant] | None:
    """The weight, [rows, columns], by its codes; ``None`` for variants that this backend does not write."""
    gather = node.op_type == "GatherBlockQuantized"
    place = 0 if gather else 1
    stands_for = node.inputs[place]
    codes, scale, zero_point = (constant_input(node, index) for index in (place, 2, 3))
    bits, block = integer(node, "bits", 4), integer(node, "block_size", _DEFAULT_BLOCK)
    if stands_for is None or codes is None or scale is None or not _is_ours(node, gather, codes, zero_point, bits):
        return None
    if gather:
        rows, width = dims(codes.shape)
        columns = width * 8 // bits
    else:
        rows, columns = integer(node, "N", 0), integer(node, "K", 0)
    count = -(-columns // block)
    points, number_format = None, FORMATS[f"int{bits}"]
    if zero_point is not None:
        packed = np.frombuffer(zero_point.tobytes(), np.uint8)
        points = unpack(packed, bits, packed.size * 8 // bits, signed=False).reshape(rows, -1)[:, :count]
        if (points == 1 << (bits - 1)).all():
            points = None
        else:
            number_format = FORMATS[f"uint{bits}"]

    def read() -> CompressedTensor:
        raw = np.frombuffer(codes.tobytes(), np.uint8)
        stored_columns = columns if gather else count * block
        matrix = unpack(raw, bits, rows * stored_columns, signed=False).reshape(rows, -1)[:, :columns]
        scales, kept = scale.numpy().reshape(rows, count), points
        if kept is None:
            # unsigned with half of the range as zero point, to two's complement
            matrix = matrix - np.uint8(1 << (bits - 1))
        whole = count == 1 or columns % block != 0
        if whole:
            # blocks that repeat one scale, the last one padded: a whole channel
            if not (scales == scales[:, :1]).all() or (kept is not None and not (kept == kept[:, :1]).all()):
                raise UnsupportedModelError(
                    f"The last block of the weight {codes.name!r} is shorter than the others; its codes cannot be read."
                )
            scales, kept = scales[:, :1], None if kept is None else kept[:, :1]
        return CompressedTensor(
            format=number_format,
            shape=(rows, columns),
            codes=pack(matrix, bits),
            scale=scales,
            zero_point=kept,
            dtype=scale.dtype.numpy().name,
            reduction_axes=(1,),
            group_axis=None if whole else 1,
            group_size=-1 if whole else block,
        )

    return stands_for, CompressedConstant(
        original_name(stands_for),
        scale.dtype.numpy().name,
        (rows, columns),
        number_format.name,
        f"group size {block}",
        bytes_of(codes, scale, zero_point),
        read,
        WeightLayout((1,), (0,)),
    )


def _is_ours(
    node: ir.Node, gather: bool, codes: ir.TensorProtocol, zero_point: ir.TensorProtocol | None, bits: int
) -> bool:
    """Whether codes and zero points are packed in bytes, with blocks along the columns of a matrix in their order."""
    if codes.dtype != ir.DataType.UINT8 or bits not in (2, 4, 8):
        return False
    given = len(node.inputs) > 3 and node.inputs[3] is not None
    if given and (zero_point is None or zero_point.dtype != ir.DataType.UINT8 or bits == 2):
        return False
    if gather:
        axes = integer(node, "gather_axis", 0), integer(node, "quantize_axis", 1)
        return len(codes.shape) == 2 and axes in ((0, 1), (0, -1))
    reordered = len(node.inputs) > 4 and node.inputs[4] is not None
    return not reordered
