"""From an OpenVINO model to the neutral graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
import openvino as ov

from nncf_core.graph import Constant, Graph, Node, OpKind, Port, Trait, WeightLayout, traits_of
from nncf_openvino.element_types import FLOATS, as_array, numpy_name, raw_bytes, type_name
from nncf_openvino.file_pages import FilePages
from nncf_openvino.forms.compressed import CompressedConstant
from nncf_openvino.geometry import axes_of, moves_of
from nncf_openvino.layouts import layout_of, permuted
from nncf_openvino.naming import Names
from nncf_openvino.operators import kind_of
from nncf_openvino.traversal import Place, Value, captured, sources, value_of
from nncf_openvino.unfusing import changes_nothing
from nncf_openvino.working import WorkingModel

T = TypeVar("T")

_PLAIN = (bool, int, float, str)


def build(working: WorkingModel) -> Graph:
    """The neutral graph of a model, see :meth:`nncf_core.contracts.GraphBuilder.build`."""
    names = working.names = Names.of(working.model)
    outer = captured(place.node for place in names.nodes.values())
    describe, pages = _Describer(names, outer), FilePages()
    nodes = [describe.node(name, place) for name, place in names.nodes.items()]
    return Graph(
        "openvino",
        nodes,
        {name: describe.constant(name, output, working, pages) for name, output in names.constants.items()},
        outputs=frozenset(node.inputs[0].tensor for node in nodes if node.kind is OpKind.OUTPUT and not node.scope),
    )


def _feed(node: Any, kind: OpKind) -> dict[str, object]:
    """The name that an input is fed by: its tensor's, where it has one."""
    names = node.output(0).get_names() if kind is OpKind.INPUT else ()
    return {"feed": min(names)} if names else {}


class _Describer:
    """Describes nodes, knowing the names and constants of the whole model."""

    def __init__(self, names: Names, outer: Mapping[Value, Any]) -> None:
        self._constants = names.of_values()
        self._compressed = names.compressed
        self._outer = outer
        # asking OpenVINO takes a while: what is asked for more than once is kept
        self._ports: dict[Value, Port] = {}
        ids = {name: place.node.get_instance_id() for name, place in names.nodes.items()}
        self._names = {number: name for name, number in ids.items()}
        self._types = {ids[name]: place.node.get_type_name() for name, place in names.nodes.items()}

    def node(self, name: str, place: Place) -> Node:
        """A node with all its ports."""
        node = place.node
        op_type = self._types[node.get_instance_id()]
        kind = kind_of(op_type)
        attributes = {} if kind is OpKind.CONTROL_FLOW else node.get_attributes()
        return Node(
            name,
            op_type,
            kind,
            tuple(self._input(node, index, output, kind) for index, output in enumerate(sources(node))),
            () if kind is OpKind.OUTPUT else tuple(self._port(value_of(output), output) for output in node.outputs()),
            tuple(self._names[outer.get_instance_id()] for outer in place.scope),
            {
                **_plain(attributes, kind),
                **_feed(node, kind),
                **({"equal_parts": op_type == "Split"} if kind is OpKind.SPLIT else {}),
            },
            axes_of(node, op_type, kind, attributes),
            moves_of(node, op_type, attributes) if kind is OpKind.SHAPE_ONLY else None,
            tuple(attributes.get("strides", ())) if kind is OpKind.CONV else (),
        )

    def constant(self, name: str, output: Any, working: WorkingModel, pages: FilePages) -> Constant:
        """What algorithms see of a constant."""
        value = value_of(output)
        known = self._compressed.get(value)
        if known is not None:
            return _compressed(name, known, working)
        return _plain_constant(name, output.get_node(), self._static_shape(value, output), working, pages)

    def _static_shape(self, value: Value, output: Any) -> tuple[int, ...]:
        """The shape of a constant."""
        shape = self._port(value, output).shape
        assert shape is not None
        return tuple(size for size in shape if size is not None)

    def _port(self, value: Value, output: Any) -> Port:
        """An output as a port that no constant feeds."""
        port = self._ports.get(value)
        if port is None:
            tensor = self._constants.get(value)
            if tensor is None:
                name = self._names.get(value.node)
                tensor = f"{name or output.get_node().get_friendly_name()}:{value.port}"
            port = self._ports[value] = Port(tensor, _dtype(output), _shape(output))
        return port

    def _input(self, node: ov.Node, index: int, output: Any, kind: OpKind) -> Port:
        value = value_of(output)
        port = self._port(value, output)
        found = self._constant_behind(value, output)
        if found is None:
            return port
        constant, source, transposes = found
        layout: WeightLayout | None = None
        if Trait.WEIGHTED in traits_of(kind):
            known = self._compressed.get(constant)
            shape = self._static_shape(constant, source) if known is None else known.shape
            layout = layout_of(node, index, len(shape))
        for permutation in transposes:
            layout = layout and permuted(layout, permutation)
        return Port(port.tensor, port.dtype, port.shape, self._constants[constant], layout)

    def _constant_behind(self, value: Value, output: Any) -> tuple[Value, Any, tuple[tuple[int, ...], ...]] | None:
        """The constant that an output is, but for transposes, casts between floating-point types, and bodies' inputs.

        Of a compressed one a Reshape that changes nothing is as good as none, see :mod:`nncf_openvino.unfusing`.

        :return: the constant, its output, and the transposes, the last one first.
        """
        transposes: list[tuple[int, ...]] = []
        reshaped = False
        while value not in self._constants:
            if value in self._outer:
                output = self._outer[value]
            else:
                kind = self._types.get(value.node)
                if kind not in ("Convert", "Transpose", "Identity", "Reshape"):
                    return None
                node = output.get_node()
                if kind == "Reshape":
                    if not changes_nothing(node):
                        return None
                    reshaped = True
                if kind == "Convert" and not _types_of(node) <= FLOATS:
                    return None
                if kind == "Transpose":
                    order = sources(node)[1].get_node()
                    if order.get_type_name() != "Constant":
                        return None
                    axes = [int(axis) for axis in order.data]
                    rank = node.get_output_partial_shape(0).rank
                    transposes.append(tuple(axes or reversed(range(rank.get_length()))))
                output = sources(node)[0]
            value = value_of(output)
        return None if reshaped and value not in self._compressed else (value, output, tuple(transposes))


def _plain(attributes: Mapping[str, Any], kind: OpKind) -> dict[str, object]:
    plain: dict[str, object] = {key: value for key, value in attributes.items() if isinstance(value, _PLAIN)}
    if kind is OpKind.CONV:
        pads = [*attributes.get("pads_begin", ()), *attributes.get("pads_end", ())]
        plain["padded"] = any(pads) or attributes.get("auto_pad", "explicit") not in ("explicit", "valid")
    if kind is OpKind.CONV_TRANSPOSE:
        plain["strides"] = list(attributes.get("strides", ()))
    return plain


def _types_of(convert: ov.Node) -> set[str]:
    return {type_name(convert.get_element_type()), type_name(convert.get_input_element_type(0))}


# the graph may outlive the model, which owns memory that its constants refer to


def _compressed(name: str, known: CompressedConstant, working: WorkingModel) -> Constant:
    return Constant(
        name,
        known.dtype,
        known.shape,
        partial(_held, working, known.read_dequantized),
        stored_bytes=known.stored_bytes,
        compressed=None if known.read is None else partial(_held, working, known.read),
        compressed_format=known.format,
        granularity=known.granularity,
    )


def _plain_constant(name: str, node: Any, shape: tuple[int, ...], working: WorkingModel, pages: FilePages) -> Constant:
    kind, size = type_name(node.get_element_type()), node.get_byte_size()
    if kind == "string":
        return Constant(name, "str", shape, lambda: _strings(node), stored_bytes=size)
    return Constant(
        name,
        numpy_name(kind),
        shape,
        partial(_held, working, lambda: as_array(raw_bytes(node), kind, shape, name)),
        lambda: pages.release(raw_bytes(node)),
        stored_bytes=size,
    )


def _held(working: WorkingModel, read: Callable[[], T]) -> T:
    """What ``read`` gives; ``working`` is alive as long as somebody may ask."""
    return read()


def _strings(node: Any) -> np.ndarray:
    return np.array(node.get_value_strings()).reshape(tuple(node.shape))


def _dtype(output: Any) -> str | None:
    kind = type_name(output.get_element_type())
    return None if kind == "dynamic" else numpy_name(kind)


def _shape(output: Any) -> tuple[int | None, ...] | None:
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    # one call for all dimensions: each alone takes a while
    return _dimensions(shape.to_string())


@lru_cache(maxsize=1 << 12)
def _dimensions(shape: str) -> tuple[int | None, ...]:
    return tuple(int(text) if text.isdigit() else None for text in shape.strip("[]").split(",") if text)
