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
    places = (0, 2, 3) if gather else (1, 2, 3)
    stands_for = node.inputs[places[0]]
    codes, scale, zero_point = (constant_input(node, place) for place in places)
    bits, block = integer(node, "bits", 4), integer(node, "block_size", _DEFAULT_BLOCK)
    if stands_for is None or codes is None or scale is None or codes.dtype != ir.DataType.UINT8 or bits not in (2, 4, 8):
        return None
    if _reorders(node, gather) or (places[2] < len(node.inputs) and node.inputs[places[2]] is not None) != (
        zero_point is not None
    ):
        return None
    if zero_point is not None and (zero_point.dtype != ir.DataType.UINT8 or bits == 2):
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


def _reorders(node: ir.Node, gather: bool) -> bool:
    """Whether blocks do not lie along the last axis of a matrix in the order of its columns."""
    if gather:
        codes = constant_input(node, 0)
        plain = codes is not None and len(codes.shape) == 2 and integer(node, "gather_axis", 0) == 0
        return not plain or integer(node, "quantize_axis", 1) not in (1, -1)
    return len(node.inputs) > 4 and node.inputs[4] is not None
