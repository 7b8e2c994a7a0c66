"""Names of nodes and constants in the neutral graph, and the OpenVINO objects that they stand for.

The names depend on the model alone, so builder and inserter find the same objects. Nodes that decompress a weight are
part of the constant, not of the graph.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
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
    """

    nodes: Mapping[str, Place]
    constants: Mapping[str, Any]
    compressed: Mapping[Value, CompressedConstant]

    @classmethod
    def of(cls, model: ov.Model) -> Names:
        """The names of a model."""
        every = list(walk(model))
        compressed = compressed_constants(place.node for place in every)
        parts = {part for constant in compressed.values() for part in constant.parts}
        places = [place for place in every if place.node.get_instance_id() not in parts]
        own = [place for place in places if place.node.get_type_name() != "Constant"]
        nodes = _unique((place.node.get_friendly_name(), place) for place in own)
        constants = [(constant.name, constant.output) for constant in compressed.values()]
        constants += [
            (place.node.get_friendly_name(), place.node.output(0))
            for place in places
            if place.node.get_type_name() == "Constant"
        ]
        return cls(nodes, _unique(constants), compressed)

    def of_values(self) -> dict[Value, str]:
        """Names of constants by value."""
        return {value_of(output): name for name, output in self.constants.items()}


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    listed = list(pairs)
    taken = {name for name, _ in listed}
    result: dict[str, Any] = {}
    for name, item in listed:
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
