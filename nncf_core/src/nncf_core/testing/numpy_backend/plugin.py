"""The toy backend as a plugin, for ``registry().register(plugin, "numpy")``."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import GraphBuilder, StatisticsAggregator, TargetPointInserter
from nncf_core.hookspecs import hookimpl
from nncf_core.testing.numpy_backend.aggregator import NumpyStatisticsAggregator
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.numpy_backend.inserter import NumpyTargetPointInserter

NNCF_HOOK_API = 1


@hookimpl
def nncf_graph_builders() -> Iterable[GraphBuilder]:
    """Reads the toy framework's models."""
    return [NumpyGraphBuilder()]


@hookimpl
def nncf_target_point_inserters() -> Iterable[TargetPointInserter]:
    """Changes and runs them."""
    return [NumpyTargetPointInserter()]


@hookimpl
def nncf_statistics_aggregators() -> Iterable[StatisticsAggregator]:
    """Collects statistics of their activations."""
    return [NumpyStatisticsAggregator()]
