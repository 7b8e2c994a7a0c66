"""From an OpenVINO model to the neutral graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, Trait, WeightLayout, traits_of
from nncf_openvino.element_types import FLOATS, as_array, numpy_name, raw_bytes, type_name
from nncf_openvino.file_pages import FilePages
from nncf_openvino.forms.compressed import CompressedConstant
from nncf_openvino.layouts import layout_of, permuted
from nncf_openvino.naming import Names
from nncf_openvino.operators import kind_of
from nncf_openvino.traversal import Place, Value, captured, sources, value_of
from nncf_openvino.working import WorkingModel

_PLAIN = (bool, int, float, str)


def build(working: WorkingModel) -> Graph:
    """The neutral graph of a model, see :meth:`nncf_core.contracts.GraphBuilder.build`."""
    names = Names.of(working.model)
    describe, pages = _Describer(names, captured(working.model)), FilePages()
    return Graph(
        "openvino",
        [describe.node(name, place) for name, place in names.nodes.items()],
        {
            name: _constant(name, output, names.compressed.get(value_of(output)), pages)
            for name, output in names.constants.items()
        },
    )


class _Describer:
    """Describes nodes, knowing the names and constants of the whole model."""

    def __init__(self, names: Names, outer: Mapping[Value, Any]) -> None:
        self._constants = names.of_values()
        self._compressed = names.compressed
        self._outer = outer
        # every output has several ports, and asking OpenVINO for its shape takes a while
        self._known: dict[Value, tuple[str | None, tuple[int | None, ...] | None]] = {}
        self._names = {place.node.get_instance_id(): name for name, place in names.nodes.items()}

    def node(self, name: str, place: Place) -> Node:
        """A node with all its ports."""
        node = place.node
        kind = kind_of(node.get_type_name())
        attributes = {} if kind is OpKind.CONTROL_FLOW else node.get_attributes()
        return Node(
            name,
            node.get_type_name(),
            kind,
            tuple(self._input(name, node, index, output, kind) for index, output in enumerate(sources(node))),
            () if kind is OpKind.OUTPUT else tuple(self._port(output) for output in node.outputs()),
            tuple(self._names[outer.get_instance_id()] for outer in place.scope),
            {key: value for key, value in attributes.items() if isinstance(value, _PLAIN)},
        )

    def _port(self, output: Any, constant: str | None = None, layout: WeightLayout | None = None) -> Port:
        value = value_of(output)
        tensor = self._constants.get(value)
        if tensor is None:
            name = self._names.get(value.node, output.get_node().get_friendly_name())
            tensor = f"{name}:{value.port}"
        if value not in self._known:
            self._known[value] = _dtype(output), _shape(output)
        return Port(tensor, *self._known[value], constant, layout)

    def _input(self, name: str, node: ov.Node, index: int, output: Any, kind: OpKind) -> Port:
        constant, transposes = self._constant_behind(output)
        if constant is None:
            return self._port(output)
        known = self._compressed.get(value_of(constant))
        shape = tuple(constant.get_shape()) if known is None else known.shape
        layout = layout_of(node, index, len(shape)) if Trait.WEIGHTED in traits_of(kind) else None
        for permutation in transposes:
            layout = layout and permuted(layout, permutation)
        title = self._constants[value_of(constant)]
        if layout is not None and 0 in shape:
            raise UnsupportedModelError(f"The weight {title!r} of node {name!r} has no elements.")
        return self._port(output, title, layout)

    def _constant_behind(self, output: Any) -> tuple[Any, tuple[tuple[int, ...], ...]]:
        """The constant that an output is, but for transposes, casts between floating-point types, and bodies' inputs.

        :return: the constant's output, ``None`` when there is none; and the transposes, the last one first.
        """
        transposes: list[tuple[int, ...]] = []
        while value_of(output) not in self._constants:
            value, node = value_of(output), output.get_node()
            kind = node.get_type_name()
            if value in self._outer:
                output = self._outer[value]
                continue
            if kind == "Convert":
                if not {type_name(node.get_element_type()), type_name(node.get_input_element_type(0))} <= FLOATS:
                    return None, ()
            elif kind == "Transpose":
                order = sources(node)[1].get_node()
                if order.get_type_name() != "Constant":
                    return None, ()
                rank = node.get_output_partial_shape(0).rank.get_length()
                transposes.append(tuple(int(axis) for axis in order.data) or tuple(reversed(range(rank))))
            elif kind != "Identity":
                return None, ()
            output = sources(node)[0]
        return output, tuple(transposes)


def _constant(name: str, output: Any, known: CompressedConstant | None, pages: FilePages) -> Constant:
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
    node = output.get_node()
    kind, shape = type_name(node.get_element_type()), tuple(node.shape)
    return Constant(
        name,
        numpy_name(kind),
        shape,
        lambda: _read(node, kind, shape, name),
        lambda: pages.release(raw_bytes(node)),
        stored_bytes=node.get_byte_size(),
    )


def _read(node: Any, kind: str, shape: tuple[int, ...], name: str) -> np.ndarray:
    return np.array(node.data) if kind == "string" else as_array(raw_bytes(node), kind, shape, name)


def _dtype(output: Any) -> str | None:
    kind = type_name(output.get_element_type())
    return None if kind == "dynamic" else numpy_name(kind)


def _shape(output: Any) -> tuple[int | None, ...] | None:
    shape = output.get_partial_shape()
    if shape.is_static:
        return tuple(shape.to_shape())
    if shape.rank.is_dynamic:
        return None
    return tuple(dimension.get_length() if dimension.is_static else None for dimension in shape)
