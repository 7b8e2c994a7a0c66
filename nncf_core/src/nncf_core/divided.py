"""Statistics of tensors whose channels are divided by factors that are found later, from the same look at the data.

The smallest element of ``x/s`` is the smallest of the channels' smallest elements, each divided by its factor. So a
sample's smallest and largest elements of each channel say what its range is behind the division.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from nncf_core.aggregators import kind_of
from nncf_core.graph import Graph
from nncf_core.statistics import POWERS, Statistics, StatisticsRequest
from nncf_core.transformations import tensor_at

_EXTREMA = {kind_of(how, what): (how, what) for how in ("min", "max", "mean") for what in ("min", "max", "abs_max")}


def needed(ahead: Iterable[StatisticsRequest], graph: Graph, axes: Mapping[str, int]) -> tuple[StatisticsRequest, ...]:
    """What has to be seen, so that some requests can be answered behind divisions.

    :param axes: of the channels, by names of the tensors that may be divided.
    :return: the requests and others; none where some of them cannot be answered so.
    """
    found: dict[StatisticsRequest, None] = {}
    for request in ahead:
        axis = axes.get(tensor_at(graph, request.target) or "")
        found[request] = None
        if axis is None or (request.kind in POWERS and request.axis == axis):
            continue
        if request.kind not in _EXTREMA or request.axis is not None or request.batched or request.held_out:
            return ()
        found |= dict.fromkeys(_each(request, axis))
    return tuple(found)


def behind(
    statistics: Statistics,
    ahead: Iterable[StatisticsRequest],
    graph: Graph,
    axes: Mapping[str, int],
    factors: Mapping[str, np.ndarray],
) -> Statistics:
    """The statistics of some requests behind divisions; none where an item brought nothing for one of them.

    :param statistics: what :func:`needed` asks for.
    :param factors: that channels were divided by, for each tensor that was divided.
    """
    result = Statistics(items=statistics.items)
    for request in ahead:
        tensor = tensor_at(graph, request.target) or ""
        divisors = factors.get(tensor)
        wanted = (request,) if divisors is None else (request, *_parts(request, axes[tensor]))
        if not all(each in statistics for each in wanted):
            return Statistics()
        state = dict(statistics.aggregator(request).state)
        if divisors is not None and request.kind in POWERS:
            state["sum"] = state["sum"] / np.power(divisors, POWERS[request.kind])
        elif divisors is not None:
            low, high = (statistics[each] / divisors for each in _each(request, axes[tensor]))
            state |= _state(request, low.min(axis=1), high.max(axis=1))
        result.aggregator(request).restore(state)
    return result


def _each(request: StatisticsRequest, axis: int) -> tuple[StatisticsRequest, StatisticsRequest]:
    low, high = (StatisticsRequest(request.target, kind, axis) for kind in ("each_min", "each_max"))
    return low, high


def _parts(request: StatisticsRequest, axis: int) -> tuple[StatisticsRequest, ...]:
    return _each(request, axis) if request.kind in _EXTREMA else ()


def _state(request: StatisticsRequest, low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
    """The state of an aggregator of extrema.

    :param low: smallest element of each sample.
    :param high: largest element of each sample.
    """
    how, what = _EXTREMA[request.kind]
    values = low if what == "min" else high if what == "max" else np.maximum(np.abs(low), np.abs(high))
    if how == "mean":
        return {"sum": np.asarray(values.sum(dtype=np.float64)), "count": np.asarray(values.size, np.int64)}
    extreme = values.min() if how == "min" else values.max()
    return {"value": np.asarray(extreme, np.float32)}
