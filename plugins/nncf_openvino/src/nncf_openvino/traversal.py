"""Walking through models: operators with their bodies, and where a value comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import openvino as ov

_BRANCHES = {"If": (0, 1), "Loop": (0,), "TensorIterator": (0,)}


class Value(NamedTuple):
    """An output of an operator, by identity: OpenVINO's own objects compare by building an Equal operator."""

    node: int
    port: int


class Body(NamedTuple):
    """A model inside of a control-flow operator.

    :param inputs: input of the operator that a parameter of the body always equals, by the parameter's index; inputs
        that change from one iteration to the next are not among them.
    """

    model: ov.Model
    inputs: dict[int, int]


class Place(NamedTuple):
    """An operator, and the control-flow operators that contain it, outermost first."""

    node: ov.Node
    scope: tuple[ov.Node, ...]


def value_of(output: Any) -> Value:
    """The identity of an output."""
    return Value(output.get_node().get_instance_id(), output.get_index())


def sources(node: ov.Node) -> list[Any]:
    """The outputs that a node takes, in the order of its inputs."""
    return [port.get_source_output() for port in node.inputs()]


def bodies(node: ov.Node) -> Iterator[Body]:
    """The bodies of a control-flow operator; none of others."""
    kind = node.get_type_name()
    for branch in _BRANCHES.get(kind, ()):
        if kind == "If":
            described, model = node.get_input_descriptions(branch), node.get_function(branch)
        else:
            described, model = node.get_input_descriptions(), node.get_function()
        yield Body(model, dict(_invariant(described)))


def _invariant(descriptions: Iterable[Any]) -> Iterator[tuple[int, int]]:
    for description in descriptions:
        if type(description).__name__ == "InvariantInputDescription":
            yield description.body_parameter_index, description.input_index


def walk(model: ov.Model, scope: tuple[ov.Node, ...] = ()) -> Iterator[Place]:
    """Every operator in topological order, those of bodies before the one that runs them."""
    for node in model.get_ordered_ops():
        for body in bodies(node):
            yield from walk(body.model, (*scope, node))
        yield Place(node, scope)


def captured(nodes: Iterable[ov.Node]) -> dict[Value, Any]:
    """The outputs of enclosing models that parameters of bodies stand for, by the parameter's value.

    :param nodes: control-flow operators; others do no harm.
    """
    found: dict[Value, Any] = {}
    for node in nodes:
        for body in bodies(node):
            parameters = body.model.get_parameters()
            for parameter, index in body.inputs.items():
                found[value_of(parameters[parameter].output(0))] = node.input(index).get_source_output()
    return found
