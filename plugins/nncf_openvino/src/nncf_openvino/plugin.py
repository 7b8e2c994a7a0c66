"""Entry point of the plugin. Nothing here imports a framework; the hooks' objects do when they are used."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import GraphBuilder, StatisticsAggregator, TargetPointInserter
from nncf_core.hookspecs import hookimpl

NNCF_HOOK_API = 1


@hookimpl
def nncf_graph_builders() -> Iterable[GraphBuilder]:
    """Reads OpenVINO models."""
    from nncf_openvino.builder import OpenVINOGraphBuilder

    return [OpenVINOGraphBuilder()]


@hookimpl
def nncf_target_point_inserters() -> Iterable[TargetPointInserter]:
    """Changes OpenVINO models."""
    from nncf_openvino.inserter import OpenVINOTargetPointInserter

    return [OpenVINOTargetPointInserter()]


@hookimpl
def nncf_statistics_aggregators() -> Iterable[StatisticsAggregator]:
    """Runs OpenVINO models on the CPU."""
    from nncf_openvino.statistics_aggregator import OpenVINOStatisticsAggregator

    return [OpenVINOStatisticsAggregator()]
