"""Models run on items of a dataset, of any form that statistics take, for those who look at tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from nncf_core.contracts import Model
from nncf_core.graph import Graph
from nncf_core.registry import Backend
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import TargetPoint, point_of


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


def outputs_of(backend: Backend, model: Model, graph: Graph, items: Sequence[Any]) -> list[dict[str, np.ndarray]]:
    """The outputs of a model for each item, by the names of their tensors in the graph."""
    points = {tensor: point_of(graph, tensor) for tensor in sorted(graph.outputs)}
    found = tensors_at(backend, model, graph, list(dict.fromkeys(points.values())), items)
    return [{tensor: arrays[point] for tensor, point in points.items()} for arrays in found]


def room_for(graph: Graph) -> bool:
    """Whether a model will run in the memory that is free, which takes about twice its weights."""
    return 2 * sum(constant.stored_bytes for constant in graph.constants.values()) < free_memory()


def free_memory() -> float:
    """Bytes of memory that the system could give; infinite where it does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return float("inf")
    return min(free, _limit())


def _limit() -> float:
    """What limits of the process leave, where there are some."""
    try:
        import resource
    except ImportError:
        return float("inf")
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    finite = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    if not finite:
        return float("inf")
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    return max(min(finite) - used, 0)
