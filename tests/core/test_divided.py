"""Statistics of divided channels, from a look at the tensor as it was."""

from __future__ import annotations

import numpy as np
import pytest

from nncf_core.divided import behind, needed
from nncf_core.graph import Graph, Node, OpKind, Port
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import TargetPoint

GRAPH = Graph(
    "toy",
    (
        Node("first", "Relu", OpKind.RELU, (Port("x"),), (Port("t"),)),
        Node("second", "Relu", OpKind.RELU, (Port("t"),), (Port("y"),)),
    ),
)
POINT, OTHER = TargetPoint("first"), TargetPoint("second")
FACTORS = np.array([0.25, 3.0, 1.0, 0.5])
KINDS = ("min", "max", "abs_max", "mean_min", "mean_max", "mean_abs_max", "min_max", "max_min")


def seen(requests: tuple[StatisticsRequest, ...], samples: list[np.ndarray], factors: object = 1.0) -> Statistics:
    """Statistics of samples ``[1, channels, positions]``, those at the first point divided; two halves merged."""
    halves = [Statistics(), Statistics()]
    for index, sample in enumerate(samples):
        for request in requests:
            divisor = np.reshape(factors, (1, -1, 1)) if request.target == POINT else 1
            array = (sample / divisor).astype(np.float32)
            halves[index >= len(samples) // 2].aggregator(request).update(array)
    halves[0].items, halves[1].items = len(samples) // 2, len(samples) - len(samples) // 2
    halves[0].merge(halves[1])
    return halves[0]


def samples() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.normal(scale, 2, (1, 4, 7)).astype(np.float32) for scale in range(5)]


@pytest.mark.parametrize("kind", [*KINDS, "mean", "mean_square"])
def test_it_is_what_the_divided_tensor_gives(kind: str) -> None:
    axis = 1 if kind in ("mean", "mean_square") else None
    ahead = (StatisticsRequest(POINT, kind, axis), StatisticsRequest(OTHER, kind, axis))
    wanted = seen(ahead, samples(), FACTORS)
    axes = {"t": 1}
    found = behind(seen(needed(ahead, GRAPH, axes), samples()), ahead, GRAPH, axes, {"t": FACTORS})
    assert found.items == 5
    for request in ahead:
        np.testing.assert_allclose(found[request], wanted[request], rtol=1e-6)
        more = seen((request,), samples()[:2], FACTORS)
        found.merge(more)
        wanted.merge(more)
        np.testing.assert_allclose(found[request], wanted[request], rtol=1e-6)


def test_what_is_not_divided_stays() -> None:
    ahead = (StatisticsRequest(POINT, "mean_max"), StatisticsRequest(POINT, "median"))
    statistics = seen(ahead, samples())
    found = behind(statistics, ahead, GRAPH, {}, {})
    assert all(found[request] == statistics[request] for request in ahead)


@pytest.mark.parametrize(
    "request_",
    [
        StatisticsRequest(POINT, "median"),
        StatisticsRequest(POINT, "quantile", None, 0.01),
        StatisticsRequest(POINT, "mean", 0),
        StatisticsRequest(POINT, "mean_max", None, batched=True),
        StatisticsRequest(POINT, "least_error_range"),
    ],
    ids=str,
)
def test_what_does_not_follow_is_not_asked_for(request_: StatisticsRequest) -> None:
    others = (StatisticsRequest(POINT, "mean_max"),)
    assert needed((*others, request_), GRAPH, {"t": 1}) == ()
    assert needed((*others, request_), GRAPH, {}) == (*others, request_)


def test_what_no_item_reaches() -> None:
    ahead = (StatisticsRequest(POINT, "mean_max"), StatisticsRequest(OTHER, "mean_max"))
    statistics = seen(needed(ahead, GRAPH, {"t": 1})[:1], samples())
    assert len(behind(statistics, ahead, GRAPH, {"t": 1}, {"t": FACTORS})) == 0
