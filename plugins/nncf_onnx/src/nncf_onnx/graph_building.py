"""From an onnx_ir model to the neutral graph."""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import onnx_ir as ir

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, Trait, WeightLayout, traits_of
from nncf_core.log import nncf_logger
from nncf_onnx.geometry import axes_of, has_equal_parts, moves_of, strides_of
from nncf_onnx.layouts import layout_of, permuted
from nncf_onnx.naming import named_constants, named_nodes, tensor_names
from nncf_onnx.operators import kind_of
from nncf_onnx.recognition import CompressedConstant, compressed_constants
from nncf_onnx.traversal import dims, walk

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
_PLAIN = frozenset({ir.AttributeType.INT, ir.AttributeType.INTS, ir.AttributeType.FLOAT, ir.AttributeType.STRING})


def build(model: ir.Model) -> Graph:
    """The neutral graph of a model, see :meth:`nncf_core.contracts.GraphBuilder.build`."""
    compressed = compressed_constants(model)
    values = named_constants(model, compressed)
    tensors = tensor_names(model, values, compressed)
    describe = _Describer(values, compressed, tensors)
    nodes = named_nodes(model)
    node_names = {node: name for name, node in nodes.items()}
    scopes = dict(walk(model.graph))
    return Graph(
        "onnx",
        [describe.node(name, node, tuple(node_names[o] for o in scopes[node])) for name, node in nodes.items()],
        {name: _constant(name, value, compressed.get(value)) for name, value in values.items()},
        {"opset": model.graph.opset_imports[""]},
        frozenset(tensors[value] for value in model.graph.outputs if value in tensors),
    )


class _Describer:
    """Describes nodes, knowing the names and constants of the whole model."""

    def __init__(
        self,
        constants: Mapping[str, ir.Value],
        compressed: Mapping[ir.Value, CompressedConstant],
        tensors: Mapping[ir.Value, str],
    ) -> None:
        self._constants = {value: name for name, value in constants.items()}
        self._compressed = compressed
        self._tensors = tensors

    def node(self, name: str, node: ir.Node, scope: tuple[str, ...]) -> Node:
        """A node with all its ports."""
        kind = kind_of(node.op_type, node.domain)
        return Node(
            name,
            node.op_type,
            kind,
            tuple(self._input(name, node, index, kind) for index in range(len(node.inputs))),
            tuple(self._port(value) for value in node.outputs),
            scope,
            _attributes(node, kind),
            axes_of(node, kind),
            moves_of(node) if kind is OpKind.SHAPE_ONLY else None,
            strides_of(node) if kind is OpKind.CONV else (),
        )

    def _port(self, value: ir.Value, constant: str | None = None, layout: WeightLayout | None = None) -> Port:
        dtype = None if value.dtype is None else _numpy_name(value.dtype)
        return Port(self._tensors[value], dtype, _shape(value), constant, layout)

    def _input(self, name: str, node: ir.Node, index: int, kind: OpKind) -> Port:
        value = node.inputs[index]
        if value is None:
            return Port("")
        constant, transposes = _constant_behind(value, self._constants)
        if constant is None:
            return self._port(value)
        known = self._compressed.get(constant)
        layout: WeightLayout | None = None
        if known is not None and known.layout is not None:
            layout = known.layout
        elif Trait.WEIGHTED in traits_of(kind):
            rank = _rank(constant, known)
            layout = layout_of(node, index, rank, kind)
            for transpose in transposes:
                layout = layout and permuted(layout, _permutation(transpose, rank))
            if layout is not None and constant.is_graph_output():
                nncf_logger.warning(
                    "The weight %s is an output of the model, too, and stays as it is.", self._constants[constant]
                )
                layout = None
        return self._port(value, self._constants[constant], layout)


def _constant_behind(value: ir.Value, constants: Container[ir.Value]) -> tuple[ir.Value | None, tuple[ir.Node, ...]]:
    """The constant that a value is, but for copies, transposes and casts between floating-point types.

    :return: the constant, ``None`` when there is none; and the transposes, the last one first.
    """
    transposes: list[ir.Node] = []
    while value not in constants:
        node = value.producer()
        if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
            return None, ()
        source = node.inputs[0]
        if node.op_type == "Transpose":
            transposes.append(node)
        elif node.op_type == "Cast":
            if value.dtype is not None and value.dtype not in _FLOATS:
                return None, ()
            if ir.DataType(node.attributes["to"].as_int()) not in _FLOATS or source.dtype not in (*_FLOATS, None):
                return None, ()
        elif node.op_type != "Identity":
            return None, ()
        value = source
    return value, tuple(transposes)


def _attributes(node: ir.Node, kind: OpKind) -> dict[str, object]:
    plain: dict[str, object] = {name: value.value for name, value in node.attributes.items() if value.type in _PLAIN}
    if kind is OpKind.CONV:
        pads, auto = node.attributes.get("pads"), plain.get("auto_pad", "NOTSET")
        plain["padded"] = (pads is not None and any(pads.as_ints())) or auto not in ("NOTSET", "VALID")
    if kind is OpKind.SPLIT:
        plain["equal_parts"] = has_equal_parts(node)
    if node.op_type == "MatMulNBits" and plain.get("accuracy_level") == 4:
        plain["activation_bits"] = 8
    return plain


def _rank(value: ir.Value, known: CompressedConstant | None) -> int:
    if known is not None:
        return len(known.shape)
    tensor = value.const_value
    return 0 if tensor is None else len(tensor.shape)


def _permutation(transpose: ir.Node, rank: int) -> tuple[int, ...]:
    attribute = transpose.attributes.get("perm")
    result = tuple(reversed(range(rank))) if attribute is None else tuple(attribute.as_ints())
    if sorted(result) != list(range(rank)):
        raise UnsupportedModelError(
            f"Transpose {transpose.name!r} has perm {list(result)}, which is no order of the {rank} axes of its input."
        )
    return result


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
        raise UnsupportedModelError(f"The constant {name!r} has no value.")
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


def _numpy_name(dtype: ir.DataType) -> str:
    try:
        return str(dtype.numpy().name)
    except TypeError:
        return "undefined"


def _shape(value: ir.Value) -> tuple[int | None, ...] | None:
    if value.shape is None:
        return None
    # some exporters write -1 for what is not known
    return tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in value.shape)
