"""Names of nodes and constants in the neutral graph, and the OpenVINO objects that they stand for.

The names depend on the model alone, so builder and inserter find the same objects. Nodes that decompress a weight are
part of the constant, not of the graph.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import openvino as ov
from attrs import frozen

from nncf_openvino.forms.compressed import CompressedConstant
from nncf_openvino.recognition import compressed_constants
from nncf_openvino.traversal import Place, Value, value_of, walk


@frozen
class Names:
    """What the graph of a model calls things.

    :param nodes: operators by name, in topological order with bodies before the nodes that run them. A node's own name
        is kept where it is the first of that name.
    :param constants: the output that users of a constant take, by name.
    :param compressed: those of them that are compressed, by value.
    :param taken: the names that OpenVINO's nodes have, whatever they are in the graph.
    """

    nodes: Mapping[str, Place]
    constants: Mapping[str, Any]
    compressed: Mapping[Value, CompressedConstant]
    taken: frozenset[str]

    @classmethod
    def of(cls, model: ov.Model) -> Names:
        """The names of a model."""
        every = list(walk(model))
        compressed = compressed_constants(place.node for place in every)
        parts = {part for constant in compressed.values() for part in constant.parts}
        named = [(place.node.get_friendly_name(), place) for place in every]
        nodes: list[tuple[str, Place]] = []
        constants = [(constant.name, constant.output) for constant in compressed.values()]
        for name, place in named:
            if place.node.get_instance_id() in parts:
                continue
            if place.node.get_type_name() == "Constant":
                constants.append((name, place.node.output(0)))
            else:
                nodes.append((name, place))
        return cls(_unique(nodes), _unique(constants), compressed, frozenset(name for name, _ in named))

    def of_values(self) -> dict[Value, str]:
        """Names of constants by value."""
        return {value_of(output): name for name, output in self.constants.items()}


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    taken = {name for name, _ in pairs}
    result: dict[str, Any] = {}
    for name, item in pairs:
        if name in result:
            name = _free(name, taken)
            taken.add(name)
        result[name] = item
    return result


def _free(base: str, taken: Container[str]) -> str:
    count = 1
    while f"{base}#{count}" in taken:
        count += 1
    return f"{base}#{count}"
