"""Models run on items of a dataset, of any form that statistics take, for those who look at tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from attrs import Factory, define

from nncf_core.contracts import Model, Runner
from nncf_core.cuts import model_inputs
from nncf_core.graph import Graph, Port
from nncf_core.memory import free_memory
from nncf_core.registry import Backend
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import PointKind, TargetPoint, point_of


@runtime_checkable
class UsualInserter(Protocol):
    """What a target-point inserter has besides when runtimes, at the settings that users have, compute less exactly."""

    def usual_runner(self, model: Model) -> Runner:
        """Like :meth:`~nncf_core.contracts.TargetPointInserter.runner`, at the runtime's own settings."""


def usual_runner(backend: Backend, model: Model) -> Runner:
    """A callable that runs a model as users do.

    :raises UnsupportedModelError: when the runtime does not take it.
    """
    inserter = backend.inserter
    return inserter.usual_runner(model) if isinstance(inserter, UsualInserter) else inserter.runner(model)


def feeds_of(graph: Graph) -> dict[str, Port]:
    """The inputs of a model by the names under which it is fed."""
    found = {}
    for tensor, point in model_inputs(graph).items():
        producer = graph.producer(tensor)
        name = tensor if producer is None else str(producer.attributes.get("feed", producer.name))
        found[name] = graph.node(point.node).inputs[point.port]
    return found


def tensors_at(
    backend: Backend, model: Model, graph: Graph, points: Sequence[TargetPoint], items: Sequence[Any]
) -> list[dict[TargetPoint, np.ndarray]]:
    """The tensors at points of a model, for each item.

    :raises UnsupportedModelError: when the runtime does not take the model.
    :raises UnsupportedDatasetError: when an item does not fit.
    """
    assert backend.aggregator is not None
    requests = {point: StatisticsRequest(point, "tensors") for point in points}
    statistics = backend.aggregator.collect(model, graph, tuple(requests.values()), items)
    found = {point: statistics.tensors(request) for point, request in requests.items()}
    return [{point: np.asarray(found[point][index]) for point in points} for index in range(len(items))]


@define
class Look:
    """A model on some items, and the tensors that were looked at so far.

    Running it once for many points is faster than for some after the other: most runtimes prepare models for long.
    """

    backend: Backend
    model: Model
    graph: Graph
    items: Sequence[Any]
    _seen: dict[TargetPoint, list[np.ndarray]] = Factory(dict)

    def ahead(self, points: Iterable[TargetPoint], most: int) -> None:
        """Look at points that will be asked for, the first of them whose tensors take ``most`` bytes by an estimate.

        :raises UnsupportedModelError: when the runtime does not take the model.
        :raises UnsupportedDatasetError: when an item does not fit.
        """
        chosen: list[TargetPoint] = []
        total = 0.0
        for point in dict.fromkeys(points):
            total += self._estimate(point)
            if total > most and chosen:
                break
            chosen.append(point)
        self._seen |= self._run(chosen)

    def at(self, points: Sequence[TargetPoint]) -> list[dict[TargetPoint, np.ndarray]]:
        """The tensors at some points, for each item."""
        missing = [point for point in points if point not in self._seen]
        found = {**self._seen, **(self._run(missing) if missing else {})}
        return [{point: found[point][index] for point in points} for index in range(len(self.items))]

    def outputs(self) -> list[dict[str, np.ndarray]]:
        """The outputs for each item, by the names of their tensors in the graph."""
        points = output_points(self.graph)
        found = self.at(list(dict.fromkeys(points.values())))
        return [{tensor: arrays[point] for tensor, point in points.items()} for arrays in found]

    def _run(self, points: Sequence[TargetPoint]) -> dict[TargetPoint, list[np.ndarray]]:
        found = tensors_at(self.backend, self.model, self.graph, points, self.items)
        return {point: [arrays[point] for arrays in found] for point in points}

    def _estimate(self, point: TargetPoint) -> float:
        node = self.graph.node(point.node)
        port = (node.inputs if point.kind is PointKind.INPUT else node.outputs)[point.port]
        positions = max(map(_positions, self.items))
        if port.shape is None:
            return 4.0 * positions * _CHANNELS
        free = any(size is None for size in port.shape)
        return 4.0 * math.prod(size or 1 for size in port.shape) * (positions if free else 1)


_CHANNELS = 4096
"""Channels of a tensor of which nothing is known."""


def _positions(item: Any) -> int:
    """How many vectors an item holds at most: tokens, or pixels."""
    arrays = item.values() if isinstance(item, Mapping) else item if isinstance(item, (tuple, list)) else [item]
    return max((math.prod(np.shape(array)) for array in arrays), default=1)


def output_points(graph: Graph) -> dict[str, TargetPoint]:
    """Where the outputs of a model are looked at, by the names of their tensors."""
    return {tensor: point_of(graph, tensor) for tensor in sorted(graph.outputs)}


def room_for(graph: Graph) -> bool:
    """Whether a model will run in the memory that is free, which takes about twice its weights."""
    return 2 * sum(constant.stored_bytes for constant in graph.constants.values()) < free_memory()
