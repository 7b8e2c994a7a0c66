"""Recognising decompression subgraphs: ours, those of other tools, and folded FakeQuantize operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from attrs import evolve, field, frozen

from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_openvino.element_types import FLOATS, NUMPY_NAMES, as_array, numpy_name, raw_bytes, type_name
from nncf_openvino.forms.compressed import CompressedConstant
from nncf_openvino.forms.emission import CODE_TYPES, UNSIGNED
from nncf_openvino.forms.packing3 import unpack_u3
from nncf_openvino.traversal import sources

_FORMATS = {code_type: name for name, code_type in CODE_TYPES.items()}
_INDICES = {"u4": 4, "u8": 8, "u16": 16}
_SCALES = frozenset({*FLOATS, "f8e8m0", "f8e4m3"})


@frozen
class _Codes:
    """The data operand of the multiplication by scales.

    :param codes: constant of codes or indices.
    :param table: constant of values that indices stand for.
    :param zero_point: constant.
    :param parts: all nodes of it.
    """

    codes: Any
    table: Any = None
    zero_point: Any = None
    parts: tuple[ov.Node, ...] = ()


@frozen
class _Scale:
    """The other operand: scales, perhaps in a narrow type, perhaps with one more factor for the whole tensor."""

    scale: Any
    factor: Any = None
    parts: tuple[ov.Node, ...] = field(default=())


@frozen
class _Axes:
    """Which codes share a scale.

    :param kept: shape of the scales in the tensor's own axes.
    """

    shape: tuple[int, ...]
    kept: tuple[int, ...]
    reduction: tuple[int, ...]
    group_axis: int | None = None
    group_size: int = -1

    @property
    def granularity(self) -> str:
        """For people."""
        if self.group_axis is not None:
            return f"group size {self.group_size}"
        return "per tensor" if len(self.reduction) == len(self.shape) else "per channel"


def decompression(multiply: ov.Node) -> CompressedConstant | None:
    """The compressed weight that a Multiply scales; ``None`` when it does something else."""
    first, second = (source.get_node() for source in sources(multiply))
    data, scale = _data(first), _scale(second)
    if data is None or scale is None:
        data, scale = _data(second), _scale(first)
    if data is None or scale is None:
        return None
    inner = [node for node in (*data.parts, *scale.parts) if node.get_type_name() != "Constant"]
    if any(len(node.output(0).get_target_inputs()) != 1 for node in inner):
        return None
    end, shape = _reshaped(multiply)
    axes = _axes(tuple(data.codes.shape), tuple(scale.scale.shape), shape)
    end, dtype = _converted(end, multiply)
    parts = {node.get_instance_id() for node in (*inner, multiply, end)}
    if shape is not None:
        parts.add(_only_user(multiply).get_instance_id())
        inner.append(_only_user(multiply))
    constants = {
        source.get_node().get_instance_id(): source.get_node()
        for node in (*inner, multiply)
        for source in sources(node)
        if source.get_node().get_type_name() == "Constant"
    }
    shared = (data.codes, data.table, data.zero_point, scale.scale, scale.factor)
    stored = sum(constant.get_byte_size() for constant in shared if constant is not None)
    code_type = type_name(data.codes.get_element_type())
    readable = axes is not None and _is_readable(data, code_type)
    return CompressedConstant(
        data.codes.get_friendly_name(),
        dtype,
        tuple(data.codes.shape) if shape is None else shape,
        _format_name(data, code_type),
        "" if axes is None else axes.granularity,
        stored,
        (lambda: _read(data, scale, axes, dtype)) if readable and axes is not None else None,
        end.output(0),
        frozenset({*parts, *(key for key, node in constants.items() if _is_private(node, parts))}),
    )


def _data(node: ov.Node) -> _Codes | None:
    kind = node.get_type_name()
    if kind == "Subtract":
        inner, point = (source.get_node() for source in sources(node))
        found, points = _data(inner), _through_convert(point)
        if found is None or points is None or found.zero_point is not None:
            return None
        return _Codes(found.codes, found.table, points, (*found.parts, node, *_unless_constant(point)))
    if kind == "Reshape":  # to the shape that it has, see emission
        found = _data(sources(node)[0].get_node())
        shape = node.get_output_partial_shape(0)
        if found is None or found.zero_point is not None or not shape.is_static:
            return None
        same = tuple(node.get_output_shape(0)) == tuple(found.codes.shape)
        return evolve(found, parts=(*found.parts, node)) if same else None
    if kind == "Convert":
        codes = sources(node)[0].get_node()
        if codes.get_type_name() == "Constant" and type_name(codes.get_element_type()) in _FORMATS:
            return _Codes(codes, parts=(node,))
        return None
    if kind == "Gather":
        taken, index = (source.get_node() for source in sources(node)[:2])
        table, indices = _through_convert(taken), _through_convert(index)
        if table is None or indices is None or len(table.shape) != 1:
            return None
        if type_name(indices.get_element_type()) not in _INDICES:
            return None
        return _Codes(indices, table, None, (node, *_unless_constant(taken), *_unless_constant(index)))
    return None


def _scale(node: ov.Node) -> _Scale | None:
    if node.get_type_name() == "Multiply":
        inner, other = (source.get_node() for source in sources(node))
        found, factor = _scale(inner), _through_convert(other)
        if found is None or factor is None or factor.data.size != 1 or found.factor is not None:
            return None
        return _Scale(found.scale, factor, (*found.parts, node, *_unless_constant(other)))
    constant = _through_convert(node)
    if constant is None or type_name(constant.get_element_type()) not in _SCALES:
        return None
    return _Scale(constant, None, _unless_constant(node))


def _through_convert(node: ov.Node) -> Any:
    """The constant that a node is or converts."""
    if node.get_type_name() == "Convert":
        node = sources(node)[0].get_node()
    return node if node.get_type_name() == "Constant" else None


def _unless_constant(node: ov.Node) -> tuple[ov.Node, ...]:
    return () if node.get_type_name() == "Constant" else (node,)


def _only_user(node: ov.Node) -> Any:
    users = list(node.output(0).get_target_inputs())
    return users[0].get_node() if len(users) == 1 else None


def _reshaped(multiply: ov.Node) -> tuple[ov.Node, tuple[int, ...] | None]:
    """The Reshape that joins groups, where one follows, and the shape that it gives."""
    user = _only_user(multiply)
    if user is None or user.get_type_name() != "Reshape":
        return multiply, None
    if sources(user)[0].get_node().get_instance_id() != multiply.get_instance_id():
        return multiply, None
    if sources(user)[1].get_node().get_type_name() != "Constant" or not user.get_output_partial_shape(0).is_static:
        return multiply, None
    return user, tuple(user.get_output_shape(0))


def _converted(end: ov.Node, multiply: ov.Node) -> tuple[ov.Node, str]:
    """The Convert to the type that the constant had, where one follows. Another one was there before compression."""
    user = _only_user(end)
    own = {f"{node.get_friendly_name()}/convert" for node in (end, multiply)}
    if user is not None and user.get_type_name() == "Convert" and user.get_friendly_name() in own:
        end = user
    return end, numpy_name(type_name(end.get_output_element_type(0)))


def _axes(codes: tuple[int, ...], scale: tuple[int, ...], shape: tuple[int, ...] | None) -> _Axes | None:
    """Which codes share a scale; ``None`` when the core cannot say it."""
    scale = (1,) * (len(codes) - len(scale)) + scale
    if len(scale) != len(codes) or any(kept not in (1, size) for kept, size in zip(scale, codes, strict=True)):
        return None
    if shape is None or shape == codes:
        reduction = tuple(axis for axis, kept in enumerate(scale) if kept == 1)
        return _Axes(codes, scale, reduction) if reduction else None
    for axis in reversed(range(len(codes) - 1)):
        joined = (*codes[:axis], codes[axis] * codes[axis + 1], *codes[axis + 2 :])
        kept = (*scale[: axis + 1], *scale[axis + 2 :])
        if joined == shape and scale[axis + 1] == 1 and kept == (*codes[: axis + 1], *codes[axis + 2 :]):
            return _Axes(shape, kept, (axis,), axis, codes[axis + 1])
    return None


def _is_private(constant: ov.Node, parts: set[int]) -> bool:
    users = constant.output(0).get_target_inputs()
    return all(user.get_node().get_instance_id() in parts for user in users)


def _format_name(data: _Codes, code_type: str) -> str:
    if data.table is not None:
        return "codebook"
    return {"u3": "int3", "u2": "int2"}.get(code_type, _FORMATS[code_type])


def _is_readable(data: _Codes, code_type: str) -> bool:
    """Whether the core has a form for these codes with these zero points."""
    points = None if data.zero_point is None else _plain(data.zero_point)
    if data.table is not None:
        return points is None and type_name(data.table.get_element_type()) in NUMPY_NAMES
    name = _format_name(data, code_type)
    if name in UNSIGNED:
        return points is not None and bool(np.all(points.astype(np.float32) == UNSIGNED[name]))
    if points is None:
        return True
    number_format = FORMATS[name]
    if number_format.lo is None or number_format.hi is None:
        return False
    wide = points.astype(np.float32)
    return bool(np.all((wide == np.round(wide)) & (wide >= number_format.lo) & (wide <= number_format.hi)))


def _plain(constant: Any) -> np.ndarray:
    kind = type_name(constant.get_element_type())
    return as_array(raw_bytes(constant), kind, tuple(constant.shape), constant.get_friendly_name())


def _read(data: _Codes, scale: _Scale, axes: _Axes, dtype: str) -> CompressedTensor:
    code_type = type_name(data.codes.get_element_type())
    name, raw = _format_name(data, code_type), raw_bytes(data.codes)
    number_format, codebook, count = FORMATS[name], None, int(np.prod(axes.shape, dtype=np.int64))
    zero_point = None if data.zero_point is None else _plain(data.zero_point).astype(np.float32)
    if data.table is not None:
        codebook = _plain(data.table).astype(np.float32)
        number_format = evolve(FORMATS["codebook"], bits=_INDICES[code_type])
    elif name in UNSIGNED:
        unsigned = unpack_u3(raw, count) if code_type == "u3" else unpack(raw, 2, count, signed=False)
        codes = unsigned.astype(np.int8) - np.int8(UNSIGNED[name])
        raw, zero_point = pack(codes.view(np.uint8), number_format.bits), None
    elif zero_point is not None and number_format.signed:
        if zero_point.any():
            raw, zero_point = _unsigned(raw, number_format.bits, count), zero_point + 2 ** (number_format.bits - 1)
            number_format = FORMATS[f"u{name}"]
        else:
            zero_point = None
    if number_format.lo == 0 and zero_point is None:
        zero_point = np.zeros((), np.float32)
    if zero_point is not None:
        zero_point = np.broadcast_to(_aligned(zero_point, data, axes), axes.kept).astype(np.uint8)
    scales = _plain(scale.scale)
    return CompressedTensor(
        format=number_format,
        shape=axes.shape,
        codes=raw,
        scale=(scales if scales.dtype.name not in ("float64", "bfloat16") else scales.astype(np.float32)).reshape(
            axes.kept
        ),
        zero_point=zero_point,
        dtype=dtype,
        reduction_axes=axes.reduction,
        group_axis=axes.group_axis,
        group_size=axes.group_size,
        global_scale=None if scale.factor is None else float(_plain(scale.factor).astype(np.float32).item()),
        codebook=codebook,
    )


def _aligned(points: np.ndarray, data: _Codes, axes: _Axes) -> np.ndarray:
    """Zero points in the tensor's own axes: that of the elements of a group goes away."""
    rank = len(data.codes.shape)
    if points.ndim < rank:
        points = points.reshape((1,) * (rank - points.ndim) + points.shape)
    return points if axes.group_axis is None else points.squeeze(axes.group_axis + 1)


def _unsigned(raw: np.ndarray, bits: int, count: int) -> np.ndarray:
    codes = unpack(raw, bits, count, signed=True).astype(np.int16) + (1 << (bits - 1))
    return pack(codes.astype(np.uint8), bits)
