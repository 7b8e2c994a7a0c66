"""Planned weights as matrices, with what is known of the inputs that layers multiply with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from attrs import evolve, field, frozen

from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.numerics.work import spread
from nncf_core.refining import PlannedConstant, PlannedWeight
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import point_of
from nncf_weight_refinement.grouped import Axes, Grouped, compressed, grouped

_FEW_BITS = 4


@frozen
class Layer:
    """A weight that is to be refined.

    :param planned: the weight.
    :param tensor: its codes so far, in memory that numpy sees.
    :param axes: how it becomes matrices.
    :param statistics: values by kind, of the inputs of all layers that use the weight, their mean; without those of
        another size than the weight has inputs.
    """

    planned: PlannedWeight
    tensor: CompressedTensor = field(eq=False, repr=False)
    axes: Axes
    statistics: dict[str, np.ndarray] = field(eq=False, repr=False)

    @property
    def target(self) -> np.ndarray:
        """What the codes are to stand for, float32, [batch, outputs, inputs]."""
        return self.axes.matrices(self.planned.values())

    @property
    def weight(self) -> Grouped:
        """The codes so far."""
        return grouped(self.tensor, self.axes)

    def refined(self, weight: Grouped, reason: str) -> PlannedWeight:
        """The weight with other codes."""
        edit = self.planned.edit
        tensor = compressed(weight, self.tensor, self.axes)
        return evolve(self.planned, edit=evolve(edit, tensor=tensor, reason=joined(edit.reason, reason)))


def joined(reason: str, more: str) -> str:
    """A reason with one more."""
    return f"{reason}; {more}" if reason else more


def is_refinable(plan: PlannedConstant) -> bool:
    """Whether so few bits are planned that codes and scales are worth a search."""
    return FORMATS[plan.request.format].bits <= _FEW_BITS and bool(plan.layout.reduction_axes)


def requests_of(graph: Graph, context: Context, kinds: Sequence[str]) -> list[StatisticsRequest]:
    """Statistics of the inputs of all planned weights that are refinable."""
    found: dict[StatisticsRequest, None] = {}
    for plan in context.planned:
        if is_refinable(plan):
            found.update(dict.fromkeys(_requests(graph, plan, kinds)))
    return list(found)


def refine_each(
    weights: Sequence[PlannedWeight],
    graph: Graph,
    statistics: Statistics,
    kinds: Sequence[str],
    context: Context,
    work: Callable[..., PlannedWeight],
    params: Any,
) -> list[PlannedWeight]:
    """Do the same to all weights that are refinable; the others stay as they are.

    :param kinds: statistics that the work looks at.
    :param work: a function of a module, given a layer, the parameters, and an executor for what is inside.
    """
    result = list(weights)
    layers = {
        index: layer_of(weight, graph, statistics, kinds)
        for index, weight in enumerate(weights)
        if is_refinable(weight.plan)
    }
    if len(layers) == 1:
        (index, layer), *_ = layers.items()
        result[index] = work(layer, params, context.executor)
        return result
    indices = list(layers)
    calls = [(layers[index], params, None) for index in indices]
    for index, refined in spread(context.executor, work, calls):
        result[indices[index]] = refined
    return result


def layer_of(weight: PlannedWeight, graph: Graph, statistics: Statistics, kinds: Sequence[str]) -> Layer:
    """A planned weight with what statistics say of its inputs."""
    tensor = weight.edit.tensor.on_host()
    axes = Axes.of(tensor.shape, weight.plan.layout)
    found = {kind: _mean(weight.plan, axes, graph, statistics, kind) for kind in kinds}
    return Layer(weight, tensor, axes, {kind: value for kind, value in found.items() if value is not None})


def _requests(graph: Graph, plan: PlannedConstant, kinds: Sequence[str]) -> list[StatisticsRequest]:
    # several layers that take a tensor look at it at one place, so that it is looked at once
    return [StatisticsRequest(point_of(graph, each.tensor), kind, each.axis) for each in plan.inputs for kind in kinds]


def _mean(plan: PlannedConstant, axes: Axes, graph: Graph, statistics: Statistics, kind: str) -> np.ndarray | None:
    requests = _requests(graph, plan, (kind,))
    fitting = [
        value
        for request in requests
        if request in statistics and (value := _of_inputs(statistics[request], plan, axes)) is not None
    ]
    if not fitting:
        return None
    mean: np.ndarray = sum(fitting[1:], start=fitting[0]) / np.float32(len(fitting))
    return mean


def _of_inputs(value: np.ndarray, plan: PlannedConstant, axes: Axes) -> np.ndarray | None:
    """A statistic of channels as one of inputs, which may be channels at several places of a kernel."""
    sizes = [axes.shape[axis] for axis in axes.inputs]
    if value.ndim == 2:
        return value if len(value) == int(np.prod(sizes)) else None
    channel = plan.layout.reduction_axes[0]
    if value.size != axes.shape[channel]:
        return None
    along = [size if axis == channel else 1 for axis, size in zip(axes.inputs, sizes, strict=True)]
    return np.broadcast_to(value.reshape(along), sizes).reshape(-1)
