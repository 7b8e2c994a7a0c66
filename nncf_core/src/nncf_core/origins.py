"""What statistics are of, so that those of another model are not taken for this one's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from attrs import frozen

from nncf_core.graph import Constant, Graph, Node

_ELEMENTS = 4096
"""Elements of a constant that are looked at, evenly spaced."""


@frozen
class Origin:
    """A model as a round of an algorithm finds it. Edits that were made before show in nodes and constants.

    :param framework: name of the backend.
    :param algorithm: name of the algorithm.
    :param round_index: which of its rounds.
    :param nodes: a line for each node: name, type, and shapes of its outputs.
    :param constants: a digest of each constant's shape, type and some of its values, by name.
    """

    framework: str
    algorithm: str
    round_index: int
    nodes: tuple[str, ...]
    constants: Mapping[str, str]

    @classmethod
    def of(cls, graph: Graph, algorithm: str, round_index: int) -> Origin:
        """The origin of statistics of a graph."""
        constants = {name: _digest(constant) for name, constant in graph.constants.items()}
        return cls(graph.framework, algorithm, round_index, tuple(map(_line, graph)), constants)

    def difference(self, other: Origin) -> str | None:
        """What is different about another, for people; ``None`` when nothing is."""
        if self.framework != other.framework:
            return f"they are of {other.framework} models, this is a {self.framework} one"
        if (self.algorithm, self.round_index) != (other.algorithm, other.round_index):
            return (
                f"they are for round {other.round_index} of {other.algorithm}, not for round {self.round_index} of "
                f"{self.algorithm}"
            )
        for mine, its in zip(self.nodes, other.nodes, strict=False):
            if mine != its:
                return f"the node {mine} was {its}"
        if len(self.nodes) != len(other.nodes):
            return f"the model has {len(self.nodes)} nodes, it had {len(other.nodes)}"
        changed = [name for name, digest in self.constants.items() if other.constants.get(name) != digest]
        changed += [name for name in other.constants if name not in self.constants]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            return f"the constant {changed[0]!r}{more} had other values"
        return None


def _line(node: Node) -> str:
    shapes = ", ".join("?" if port.shape is None else str(list(port.shape)) for port in node.outputs)
    return f"{node.name!r} ({node.op_type}: {shapes})"


def _digest(constant: Constant) -> str:
    found = hashlib.sha256(f"{constant.dtype} {constant.shape} {constant.compressed_format}".encode())
    if constant.compressed_format is None:
        values = constant.read()
        found.update(values.flat[:: max(values.size // _ELEMENTS, 1)].tobytes())
        constant.release()
    return found.hexdigest()[:16]
