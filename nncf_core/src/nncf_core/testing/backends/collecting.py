"""Statistics of activations, against numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import SkipTest

import numpy as np

from nncf_core.contracts import StatisticsAggregator
from nncf_core.errors import UnsupportedDatasetError
from nncf_core.graph import Graph
from nncf_core.statistics import StatisticsRequest
from nncf_core.testing.backends.base import BackendSuite, activation_of
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.suite import expect
from nncf_core.transformations import PointKind, TargetPoint

# rows are the elements that a statistic is taken of, columns what it is taken for
_BY_NUMPY: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "min": lambda rows: rows.min(axis=0),
    "max": lambda rows: rows.max(axis=0),
    "abs_max": lambda rows: np.abs(rows).max(axis=0),
    "mean": lambda rows: rows.mean(axis=0),
    "mean_square": lambda rows: (rows**2).mean(axis=0),
}

_OTHERS: Mapping[str, float | None] = {
    "mean_max": None,
    "median_min": None,
    "mean_quantile": 0.99,
    "median": None,
}
"""Kinds that are only compared with themselves, with the probability that they take."""


class CollectingTests(BackendSuite):
    """The statistics aggregator, where the backend has one."""

    def test_statistics_equal_numpy(self, case: ModelCase) -> None:
        """Statistics over everything and for each index of the last axis."""
        model, graph, requests = self._prepared(case)
        statistics = self._aggregator().collect(model, graph, requests, iter(case.feeds))
        points = list(dict.fromkeys(request.target for request in requests))
        run = self.backend.inserter.runner(self.backend.inserter.extract(model, (), points))
        tensors: dict[TargetPoint, list[np.ndarray]] = {point: [] for point in points}
        for feed in case.feeds:
            outputs = run(feed)
            for point in points:
                tensors[point].append(np.asarray(outputs[str(point)]).astype(np.float64))
        for request in requests:
            if request.kind not in _BY_NUMPY:
                continue
            width = tensors[request.target][0].shape[-1] if request.axis == -1 else 1
            rows = np.concatenate([array.reshape(-1, width) for array in tensors[request.target]])
            wanted = _BY_NUMPY[request.kind](rows)
            found = np.asarray(statistics[request], np.float64)
            expect(
                found.shape == (wanted.shape if request.axis == -1 else ()),
                f"the statistic {request.key} has shape {found.shape}",
            )
            self.same(found.reshape(wanted.shape), wanted, f"the statistic {request.key}")

    def test_halves_merge_to_the_whole(self, case: ModelCase) -> None:
        """Statistics that are collected apart and merged are those of the whole."""
        model, graph, requests = self._prepared(case)
        collect = self._aggregator().collect
        whole = collect(model, graph, requests, case.feeds)
        middle = len(case.feeds) // 2
        first, second = (collect(model, graph, requests, half) for half in (case.feeds[:middle], case.feeds[middle:]))
        first.merge(second)
        for request in requests:
            self.same(np.asarray(first[request]), np.asarray(whole[request]), f"the merged statistic {request.key}")

    def test_collecting_changes_nothing(self, case: ModelCase) -> None:
        """The model computes the same afterwards."""
        model, graph, requests = self._prepared(case)
        self._aggregator().collect(model, graph, requests, case.feeds)
        self.same_outputs(self.outputs(model, case), self.expected(case, {}), "after collecting statistics")

    def test_unusable_data_is_an_error(self, case: ModelCase) -> None:
        """No items, and items that do not fit, give ``UnsupportedDatasetError``."""
        model, graph, requests = self._prepared(case)
        name = next(iter(case.feeds[0]))
        unusable: list[tuple[str, Sequence[Any]]] = [
            ("no items", []),
            ("an item that lacks an input", [{}]),
            ("an item with an unknown name", [{"no such input": case.feeds[0][name]}]),
            ("an item of another rank", [{**case.feeds[0], name: np.zeros((1,) * 7, np.float32)}]),
            ("a string", ["text"]),
        ]
        for what, items in unusable:
            try:
                self._aggregator().collect(model, graph, requests, items)
            except UnsupportedDatasetError:
                continue
            except Exception as error:
                expect(False, f"collect must raise UnsupportedDatasetError for {what}, not {error!r}")
            expect(False, f"collect must raise UnsupportedDatasetError for {what}; it raised nothing")

    def _aggregator(self) -> StatisticsAggregator:
        aggregator = self.backend.aggregator
        if aggregator is None:
            raise SkipTest(f"no plugin provides a statistics aggregator for {self.framework}")
        return aggregator

    def _prepared(self, case: ModelCase) -> tuple[Any, Graph, list[StatisticsRequest]]:
        self._aggregator()
        model = self.opened(case)
        graph = self.backend.builder.build(model)
        nodes = [node for node in graph if not node.scope and node.outputs]
        ends = [(activation_of(node), TargetPoint(node.name, PointKind.OUTPUT, 0)) for node in nodes]
        points = [point for pair in ends for point in pair if point is not None and _is_float(graph, point)]
        expect(points, "no port of the graph is stated to hold floating-point numbers; fill in Port.dtype")
        kinds = {**dict.fromkeys(_BY_NUMPY), **_OTHERS}
        requests = [
            StatisticsRequest(point, kind, axis, probability)
            for point in points
            for kind, probability in kinds.items()
            for axis in (None, -1)
        ]
        requests += [StatisticsRequest(point, "least_error_range") for point in points]
        return model, graph, requests


def _is_float(graph: Graph, point: TargetPoint) -> bool:
    node = graph.node(point.node)
    port = (node.inputs if point.kind is PointKind.INPUT else node.outputs)[point.port]
    return port.dtype is not None and "float" in port.dtype and port.shape != ()
