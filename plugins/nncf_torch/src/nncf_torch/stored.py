"""Compressed weights as tensors: what is stored, and how it becomes a weight again.

A weight ``w`` is stored in up to five tensors, named ``w_codes``, ``w_scale`` and so on:

- ``codes``: 8-bit codes one by one in the weight's shape (int8, uint8, float8, indices of codebooks uint8 or int16);
  narrower codes packed in uint8, the first one in the lowest bits, signed ones with an offset, so that
  0 is the lowest;
- ``scale``, and ``zero_point`` in the integer formats that have one: with the weight's number of axes, and one more
  after the axis that is divided into groups. 4-bit zero points are packed like codes when their number is even.
  Powers of two (float8_e8m0fnu) are kept in bfloat16, which holds them exactly and which files and converters know;
- ``codebook``: values that the indices stand for, float32;
- ``global_scale``: one more float32 factor.

Only operators that ``torch.export``, ``torch.compile`` and OpenVINO's converter know well take part; the nibbles are
taken apart in the one way in which the converter recognises ``u4`` constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from nncf_core.numerics.arrays import nbytes_of, size_of
from nncf_core.numerics.formats import FORMATS, NumberFormat
from nncf_core.numerics.packing import packed_size
from nncf_core.numerics.tensor import CompressedTensor
from nncf_torch.fake_quantize import FLOAT8
from nncf_torch.tensors import cast_tensor, dtype_name, resident_of, stays, tensor_of, torch_dtype

PARTS = ("codes", "scale", "zero_point", "codebook", "global_scale")
"""Names of the tensors, in the order of :func:`decompress`'s arguments."""


class Stored(NamedTuple):
    """What the tensors of a compressed weight mean; a tuple, which ``torch.compile`` reads as a constant.

    :param format: name of the number format.
    :param bits: bits of a code.
    :param shape: shape of the weight.
    :param dtype: its element type.
    :param reduction_axes: axes along which a scale is shared.
    :param group_axis: the axis that is divided into groups; ``None`` when it is not divided.
    :param group_size: elements along it that share a scale; ``-1`` when it is not divided.
    :param clipped: whether decompressed values may exceed the element type.
    :param suffix: what the names of its tensors in a module end with, see
        :func:`~nncf_torch.attributes.part_name`.
    """

    format: str
    bits: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    reduction_axes: tuple[int, ...]
    group_axis: int | None
    group_size: int
    clipped: bool = False
    suffix: str = ""

    @property
    def offset(self) -> int:
        """What codes are stored too high by."""
        return 2 ** (self.bits - 1) if self.format in ("int4", "int3", "int2") else 0

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """Shape of the scales in the weight's own axes."""
        return tuple(
            n // self.group_size if axis == self.group_axis else 1 if axis in self.reduction_axes else n
            for axis, n in enumerate(self.shape)
        )

    @property
    def grouped_shape(self) -> tuple[int, ...]:
        """Shape of the weight with an axis of its own for the elements of a group."""
        if self.group_axis is None:
            return self.shape
        before, after = self.shape[: self.group_axis], self.shape[self.group_axis + 1 :]
        return (*before, self.shape[self.group_axis] // self.group_size, self.group_size, *after)


def grouped_scale_shape(scale_shape: tuple[int, ...], group_axis: int | None) -> tuple[int, ...]:
    """A scale's shape that broadcasts against the grouped weight."""
    if group_axis is None:
        return scale_shape
    return (*scale_shape[: group_axis + 1], 1, *scale_shape[group_axis + 1 :])


def encode(tensor: CompressedTensor, device: torch.device | str = "cpu") -> tuple[Stored, dict[str, torch.Tensor]]:
    """The tensors of a compressed weight, on a device; nothing of what lies there already passes through the CPU."""
    stored, scale = stored_of(tensor), _scales_of(tensor)
    broadcast = grouped_scale_shape(tuple(scale.shape), tensor.group_axis)
    scale = scale.reshape(broadcast)
    if scale.dtype is torch.float8_e8m0fnu:
        scale = scale.to(torch.bfloat16)
    parts = {"codes": _stored_codes(stored, tensor_of(tensor.codes)), "scale": scale}
    if tensor.zero_point is not None:
        zero_point = tensor_of(tensor.zero_point)
        packed = stored.bits == 4 and zero_point.numel() % 2 == 0
        parts["zero_point"] = _packed_pairs(zero_point) if packed else zero_point.reshape(broadcast)
    if tensor.format.values:
        parts["codebook"] = torch.tensor(tensor.format.values, dtype=torch.float32)
    elif tensor.codebook is not None:
        parts["codebook"] = cast_tensor(tensor.codebook, torch.float32)
    if tensor.global_scale is not None:
        parts["global_scale"] = torch.tensor(tensor.global_scale, dtype=torch.float32)
    return stored, {name: part.to(device) for name, part in parts.items()}


def stored_of(tensor: CompressedTensor) -> Stored:
    """What the tensors of a compressed weight will mean."""
    dtype = torch_dtype(tensor.dtype)
    return Stored(
        tensor.format.name,
        tensor.format.bits,
        tuple(tensor.shape),
        dtype,
        tuple(tensor.reduction_axes),
        tensor.group_axis,
        tensor.group_size,
        clipped=_may_exceed(tensor, torch.finfo(dtype).max),
    )


def _scales_of(tensor: CompressedTensor) -> torch.Tensor:
    scale = tensor_of(tensor.scale)
    return scale if tensor.scale_format is None else scale.view(torch_dtype(tensor.scale_format))


def decode(stored: Stored, parts: Mapping[str, torch.Tensor]) -> CompressedTensor:
    """The inverse of :func:`encode`; the arrays are those of :func:`~nncf_torch.tensors.resident_of`."""
    zero_point, scale = parts.get("zero_point"), parts["scale"].detach().reshape(stored.scale_shape)
    scale_format = None
    if scale.dtype is torch.bfloat16:  # its exponent is what float8_e8m0fnu has
        scale = (scale.view(torch.int16) >> 7).to(torch.uint8).view(torch.float8_e8m0fnu)
    if stays(scale) and scale.element_size() == 1:
        scale, scale_format = scale.view(torch.uint8), dtype_name(scale.dtype)
    if zero_point is not None:
        if zero_point.numel() * 2 == scale.numel() and stored.bits == 4:
            zero_point = _unpack(zero_point, 4, False)
        zero_point = zero_point.reshape(scale.shape)
    number_format = FORMATS[stored.format]
    if stored.format == "codebook" and stored.bits != number_format.bits:
        number_format = NumberFormat("codebook", stored.bits, "codebook", 0.0)
    return CompressedTensor(
        format=number_format,
        shape=stored.shape,
        codes=resident_of(_plain_codes(stored, parts["codes"])),
        scale=resident_of(scale),
        zero_point=None if zero_point is None else resident_of(zero_point),
        dtype=dtype_name(stored.dtype),
        reduction_axes=stored.reduction_axes,
        group_axis=stored.group_axis,
        group_size=stored.group_size,
        global_scale=float(parts["global_scale"]) if "global_scale" in parts else None,
        codebook=resident_of(parts["codebook"]) if stored.format == "codebook" else None,
        scale_format=scale_format,
    )


def decompress(
    stored: Stored,
    codes: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor | None = None,
    codebook: torch.Tensor | None = None,
    global_scale: torch.Tensor | None = None,
    *,
    exported: bool = False,
) -> torch.Tensor:
    """The weight that codes stand for, computed in float32 as :func:`nncf_core.numerics.kernels.decompress` does.

    :param exported: whether this becomes a part of an exported program.
    """
    shape = stored.grouped_shape
    exported = exported or torch.compiler.is_exporting()
    if exported and torch.onnx.is_in_onnx_export() and _is_linear(stored):
        return _dequantized(stored, codes, scale, zero_point)
    # onnxruntime cannot reshape float8
    as_floats = exported and codes.dtype is torch.float8_e4m3fn
    unpacked = codes.to(torch.float32) if as_floats else _unpack(codes, stored.bits, exported)
    size = math.prod(shape)
    if size % _CODES_IN_BYTES.get(stored.bits, (1, 1))[0]:  # not numel(), of which torch.jit.trace warns
        unpacked = unpacked.reshape(-1)[:size]
    unpacked = unpacked.reshape(shape)
    if codebook is None:
        values = unpacked.to(torch.float32)
    else:
        indices = unpacked.reshape(-1).to(torch.int32)
        if stored.bits == 16:
            indices = torch.bitwise_and(indices, 0xFFFF)
        values = torch.index_select(codebook, 0, indices).reshape(shape)
    if zero_point is not None:
        if stored.bits == 4 and (zero_point.dim() < scale.dim() or zero_point.numel() * 2 == scale.numel()):
            zero_point = _unpack(zero_point, 4, exported).reshape(scale.shape)
        values = values - zero_point.to(torch.float32)
    elif stored.offset:
        values = values - stored.offset
    values = values * scale.to(torch.float32)
    if global_scale is not None:
        values = values * global_scale
    if len(shape) != len(stored.shape):
        values = values.reshape(stored.shape)
    if stored.dtype is torch.float32:
        return values
    if stored.clipped and stored.dtype is not torch.float64:
        limit = torch.finfo(stored.dtype).max
        values = values.clamp(-limit, limit)
    return values.to(stored.dtype)


def _is_linear(stored: Stored) -> bool:
    """Whether ONNX's DequantizeLinear says all: 8-bit integers with one scale, or one for each index along an axis."""
    several = [n for n in stored.scale_shape if n != 1]
    return stored.format in ("int8", "uint8") and stored.group_axis is None and len(several) <= 1


def _dequantized(
    stored: Stored, codes: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None
) -> torch.Tensor:
    """The operator itself: single steps the exporter's optimizer would fold to floating-point numbers."""
    axes = [axis for axis, n in enumerate(stored.scale_shape) if n != 1]
    along = (-1,) if axes else ()
    inputs = [codes.reshape(stored.shape), scale.to(torch.float32).reshape(along)]
    if zero_point is not None:
        inputs.append(zero_point.reshape(along))
    attributes: dict[str, Any] = {"axis": axes[0]} if axes else {}
    values: torch.Tensor = torch.onnx.ops.symbolic(
        "DequantizeLinear", inputs, attributes, dtype=torch.float32, shape=stored.shape
    )
    return values if stored.dtype is torch.float32 else values.to(stored.dtype)


def is_by_row(stored: Stored, codes: torch.Tensor) -> bool:
    """Whether a matrix can be decompressed row by row: rows share neither a byte of codes nor a scale."""
    by_row = len(stored.shape) == 2 and codes.dim() == 2 and codes.shape[0] == stored.shape[0]
    return by_row and stored.reduction_axes == (1,) and stored.group_axis in (None, 1)


def decompress_rows(stored: Stored, parts: Mapping[str, torch.Tensor], indices: torch.Tensor) -> torch.Tensor:
    """Rows of a matrix, the same as those of what :func:`decompress` gives.

    :param indices: integers of any shape.
    :return: that shape with one more axis.
    """
    flat, columns = indices.reshape(-1), stored.shape[1]
    scale, zero_point = parts["scale"], parts.get("zero_point")
    if zero_point is not None:
        if zero_point.numel() != scale.numel():
            zero_point = _unpack(zero_point, stored.bits, exported=False)
        zero_point = zero_point.reshape(scale.shape)[flat]
    rows = decompress(
        stored._replace(shape=(flat.numel(), columns)),
        parts["codes"][flat],
        scale[flat],
        zero_point,
        parts.get("codebook"),
        parts.get("global_scale"),
    )
    return rows.reshape(*indices.shape, columns)


def encoded_bytes(tensor: CompressedTensor) -> int:
    """Bytes that the tensors of :func:`encode` take."""
    _, size = _CODES_IN_BYTES.get(tensor.format.bits, (1, 1))
    total = nbytes_of(tensor.codes) + -nbytes_of(tensor.codes) % size
    # float8_e8m0fnu is kept as bfloat16
    total += nbytes_of(tensor.scale) * (2 if tensor.scale_dtype == "float8_e8m0fnu" else 1)
    if tensor.zero_point is not None:
        count = size_of(tensor.zero_point)
        total += count // 2 if tensor.format.bits == 4 and count % 2 == 0 else count
    table = tensor.format.values if tensor.codebook is None else tensor.codebook
    return total + 4 * (0 if table is None else len(table)) + 4 * (tensor.global_scale is not None)


def stored_bytes(parts: Mapping[str, torch.Tensor]) -> int:
    """Bytes that the tensors take."""
    return sum(part.numel() * part.element_size() for part in parts.values())


def _unpack(codes: torch.Tensor, bits: int, exported: bool) -> torch.Tensor:
    if bits == 4:
        # OpenVINO's converter knows the shift in traced modules (and u4 by it), and the division in exported programs;
        # bits below are cleared before it: its CPU plugin may round a quotient to the nearest integer
        high = torch.bitwise_and(codes, 240) // 16 if exported else torch.bitwise_right_shift(codes, 4)
        return torch.stack((torch.bitwise_and(codes, 15), high), dim=-1)
    if bits == 2:
        return torch.stack([torch.bitwise_and(codes, 3 * 4**i) // 4**i for i in range(4)], dim=-1)
    if bits == 3:
        # eight codes in three bytes
        low, middle, high = codes.reshape(-1, 3).to(torch.int32).unbind(-1)
        word = low + middle * 256 + high * 65536
        return torch.stack([torch.bitwise_and(word // 8**i, 7) for i in range(8)], dim=-1)
    return codes


_CODE_DTYPES = {"int8": torch.int8, **FLOAT8}
# the sign bit of every code that a byte, or three, hold
_SIGNS = {4: (0x88,), 2: (0xAA,), 3: (0x24, 0x49, 0x92)}
_CODES_IN_BYTES = {4: (2, 1), 2: (4, 1), 3: (8, 3)}


def _stored_codes(stored: Stored, codes: torch.Tensor) -> torch.Tensor:
    if stored.bits >= 8:
        dtype = torch.int16 if stored.bits == 16 else _CODE_DTYPES.get(stored.format, torch.uint8)
        return codes.view(dtype).reshape(stored.shape)
    count, size = _CODES_IN_BYTES[stored.bits]
    padded = torch.cat((codes, codes.new_zeros(-len(codes) % size))) if len(codes) % size else codes
    if stored.offset:
        padded = _with_signs_flipped(padded, stored.bits)
    last = stored.shape[-1]
    shape = (*stored.shape[:-1], last // count * size) if last % count == 0 else (len(padded),)
    return padded.reshape(shape)


def _packed_pairs(codes: torch.Tensor) -> torch.Tensor:
    pairs = codes.reshape(-1, 2)
    return pairs[:, 0] | (pairs[:, 1] << 4)


def _with_signs_flipped(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Two's complement to codes with an offset, and back."""
    signs = _SIGNS[bits]
    if len(signs) == 1 and type(codes) is torch.Tensor and codes.device.type == "cpu":
        # numpy needs no threads, which the workers that compress the next weights have
        return torch.from_numpy(codes.numpy() ^ np.uint8(signs[0]))
    if len(signs) == 1:
        return codes ^ signs[0]
    return (codes.reshape(-1, len(signs)) ^ torch.tensor(signs, dtype=torch.uint8, device=codes.device)).reshape(-1)


def _plain_codes(stored: Stored, codes: torch.Tensor) -> torch.Tensor:
    flat = codes.detach().reshape(-1).view(torch.uint8)
    if stored.offset:
        flat = _with_signs_flipped(flat, stored.bits)
    elements = math.prod(stored.shape)
    size = packed_size(elements, stored.bits)
    plain = flat[:size]
    spare = size * 8 - elements * stored.bits
    if stored.offset and spare:
        plain[-1] &= 0xFF >> spare
    return plain


def _may_exceed(tensor: CompressedTensor, limit: float) -> bool:
    """Whether decompressed values may be of a larger magnitude than this."""
    scale, reach = _scales_of(tensor), _reach(tensor) * abs(tensor.global_scale or 1.0)
    if torch.finfo(scale.dtype).max * reach <= limit or not scale.numel():
        return False  # whatever the scales are
    low, high = torch.aminmax(scale.to(torch.float32))
    return max(-float(low), float(high)) * reach > limit


def _reach(tensor: CompressedTensor) -> float:
    """The largest magnitude that a scale is multiplied by."""
    if tensor.codebook is not None:
        return float(abs(tensor.codebook).max())
    if tensor.zero_point is not None:
        return float(2**tensor.format.bits - 1)
    return tensor.format.max_value
