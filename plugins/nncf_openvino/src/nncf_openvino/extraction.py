"""Sub-models between target points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import openvino as ov
from openvino import opset1

from nncf_core.errors import ValidationError
from nncf_core.transformations import PointKind, TargetPoint
from nncf_openvino.naming import Names
from nncf_openvino.opening import reason_of
from nncf_openvino.traversal import Place
from nncf_openvino.working import WorkingModel


def extract(working: WorkingModel, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> WorkingModel:
    """A sub-model, see :meth:`nncf_core.contracts.TargetPointInserter.extract`; ``working`` is not changed."""
    copy = working.model.clone()
    names = Names.of(copy)
    nodes = names.nodes
    for name, place in nodes.items():
        place.node.set_friendly_name(name)  # which may depend on nodes that are cut off
    for name, output in names.constants.items():
        if output.get_node().get_type_name() == "Constant":
            output.get_node().set_friendly_name(name)
    # outputs first: an input takes the place of what produced it
    ends = [_output_at(nodes, point) for point in outputs]
    parameters = [_start(nodes, point) for point in inputs] if inputs else copy.get_parameters()
    starts = {str(point): parameter for point, parameter in zip(inputs, parameters, strict=False)}
    results = []
    for point, end in zip(outputs, ends, strict=True):
        if point.kind is PointKind.INPUT:
            end = nodes[point.node].node.input(point.port).get_source_output()
        result = opset1.result(end)
        result.set_friendly_name(str(point))
        results.append(result)
    try:
        sinks = [] if inputs else copy.get_sinks()
        model = ov.Model(results, sinks, list(parameters), working.model.get_friendly_name())
    except RuntimeError as error:
        raise ValidationError(
            f"The outputs depend on more than the inputs {', '.join(starts)}: {reason_of(error)}"
        ) from None
    return WorkingModel(
        model,
        inputs=tuple(starts) if inputs else working.inputs,
        outputs=tuple(str(point) for point in outputs),
        kept=[*working.kept],
    )


def _output_at(nodes: Mapping[str, Place], point: TargetPoint) -> Any:
    """The output that produces the tensor at a target point of the main graph.

    :raises ValidationError: when there is none.
    """
    place = nodes.get(point.node)
    before = point.kind is PointKind.INPUT
    node = None if place is None else place.node
    count = 0 if node is None else node.get_input_size() if before else node.get_output_size()
    if place is None or node is None or point.port >= count or (not before and node.get_type_name() == "Result"):
        raise ValidationError(f"The model has no point {point}.")
    if place.scope:
        raise ValidationError(f"The point {point} lies in the body of a control-flow node and cannot be reached alone.")
    return node.input(point.port).get_source_output() if before else node.output(point.port)


def _start(nodes: Mapping[str, Place], point: TargetPoint) -> Any:
    """A new input in place of the tensor at a point."""
    source = _output_at(nodes, point)
    new = opset1.parameter(source.get_partial_shape(), source.get_element_type())
    new.set_friendly_name(str(point))
    before = point.kind is PointKind.INPUT
    users = [nodes[point.node].node.input(point.port)] if before else list(source.get_target_inputs())
    for user in users:
        user.replace_source_output(new.output(0))
    return new
