"""From an onnx_ir model to the neutral graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, Trait, WeightLayout, traits_of
from nncf_onnx.layouts import layout_of, permuted
from nncf_onnx.naming import named_constants, named_nodes
from nncf_onnx.operators import kind_of
from nncf_onnx.recognition import CompressedConstant, compressed_constants
from nncf_onnx.traversal import dims, walk

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


def build(model: ir.Model) -> Graph:
    """The neutral graph of a model, see :meth:`nncf_core.contracts.GraphBuilder.build`."""
    compressed = compressed_constants(model)
    values = named_constants(model, compressed)
    names = {value: name for name, value in values.items()}
    nodes = named_nodes(model)
    node_names = {node: name for name, node in nodes.items()}
    scopes = dict(walk(model.graph))
    return Graph(
        "onnx",
        [
            _node(name, node, tuple(node_names[outer] for outer in scopes[node]), names, compressed)
            for name, node in nodes.items()
        ],
        {name: _constant(name, value, compressed.get(value)) for name, value in values.items()},
        {"opset": model.graph.opset_imports[""]},
    )


def _node(
    name: str,
    node: ir.Node,
    scope: tuple[str, ...],
    constants: Mapping[ir.Value, str],
    compressed: Mapping[ir.Value, CompressedConstant],
) -> Node:
    kind = kind_of(node.op_type, node.domain)
    return Node(
        name,
        node.op_type,
        kind,
        tuple(_input(name, node, index, kind, constants, compressed) for index in range(len(node.inputs))),
        tuple(_port(value) for value in node.outputs),
        scope,
        {k: a.value for k, a in node.attributes.items() if a.type in _PLAIN},
    )


_PLAIN = frozenset({ir.AttributeType.INT, ir.AttributeType.INTS, ir.AttributeType.FLOAT, ir.AttributeType.STRING})


def _input(
    name: str,
    node: ir.Node,
    index: int,
    kind: OpKind,
    constants: Mapping[ir.Value, str],
    compressed: Mapping[ir.Value, CompressedConstant],
) -> Port:
    value = node.inputs[index]
    if value is None:
        return Port("")
    constant, permutation = constant_behind(value, constants)
    if constant is None:
        return _port(value)
    layout: WeightLayout | None = None
    known = compressed.get(constant)
    if known is not None and known.layout is not None:
        layout = known.layout
    elif Trait.WEIGHTED in traits_of(kind):
        layout = layout_of(node, index, _rank(constant, known), kind)
        layout = layout and (permuted(layout, permutation) if permutation else layout)
    if layout is not None and known is None and _element_count(constant) == 0 and constant.dtype in _FLOATS:
        raise UnsupportedModelError(f"The weight {constants[constant]!r} of node {name!r} has no elements.")
    return Port(value.name or "", _dtype(value), _shape(value), constants[constant], layout)


def constant_behind(
    value: ir.Value, constants: Mapping[ir.Value, str]
) -> tuple[ir.Value | None, tuple[int, ...] | None]:
    """The constant that a value is, but for copies, transposes and casts between floating-point types.

    :return: the constant, ``None`` when there is none; and for each axis of ``value`` the axis of the constant,
        ``None`` when they are the same.
    """
    permutation: tuple[int, ...] | None = None
    while value not in constants:
        node = value.producer()
        if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
            return None, None
        source = node.inputs[0]
        if node.op_type == "Transpose":
            step = _permutation(node, source)
            if step is None:
                return None, None
            permutation = step if permutation is None else tuple(step[axis] for axis in permutation)
        elif node.op_type == "Cast":
            if value.dtype is not None and value.dtype not in _FLOATS:
                return None, None
            if ir.DataType(node.attributes["to"].as_int()) not in _FLOATS or source.dtype not in (*_FLOATS, None):
                return None, None
        elif node.op_type != "Identity":
            return None, None
        value = source
    return value, permutation


def _rank(value: ir.Value, known: CompressedConstant | None) -> int:
    if known is not None:
        return len(known.shape)
    tensor = value.const_value
    return 0 if tensor is None else len(tensor.shape)


def _permutation(node: ir.Node, source: ir.Value) -> tuple[int, ...] | None:
    attribute = node.attributes.get("perm")
    if attribute is not None:
        return tuple(attribute.as_ints())
    return None if source.shape is None else tuple(reversed(range(len(source.shape))))


def _constant(name: str, value: ir.Value, known: CompressedConstant | None) -> Constant:
    if known is not None:
        return Constant(
            name,
            known.dtype,
            known.shape,
            known.read_dequantized,
            stored_bytes=known.stored_bytes,
            compressed=known.read,
            compressed_format=known.format,
            granularity=known.granularity,
        )
    tensor = value.const_value
    if tensor is None:
        # a Constant node that holds no tensor (a string, a list): not readable as an array
        return Constant(name, "object", (), lambda: np.empty(0, object))
    return Constant(
        name,
        _numpy_name(tensor.dtype),
        dims(tensor.shape),
        lambda: _read(tensor, name),
        release=getattr(tensor, "release", lambda: None),
        stored_bytes=tensor.nbytes,
    )


def _read(tensor: ir.TensorProtocol, name: str) -> np.ndarray:
    try:
        return tensor.numpy()
    except (ValueError, TypeError) as error:
        raise UnsupportedModelError(
            f"The data of the constant {name!r} does not fit its type and shape: {error}."
        ) from None


def _port(value: ir.Value) -> Port:
    return Port(value.name or "", _dtype(value), _shape(value))


def _dtype(value: ir.Value) -> str | None:
    return None if value.dtype is None else _numpy_name(value.dtype)


def _numpy_name(dtype: ir.DataType) -> str:
    try:
        return str(dtype.numpy().name)
    except TypeError:
        return "undefined"


def _shape(value: ir.Value) -> tuple[int | None, ...] | None:
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def _element_count(value: ir.Value) -> int:
    shape = _shape(value) or (1,)
    return int(np.prod([1 if dim is None else dim for dim in shape], dtype=np.int64))
