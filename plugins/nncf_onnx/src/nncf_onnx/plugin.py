"""Entry point of the plugin. Nothing here imports a framework; the hooks' objects do when they are used."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import GraphBuilder, StatisticsAggregator, TargetPointInserter
from nncf_core.hookspecs import hookimpl

NNCF_HOOK_API = 1


@hookimpl
def nncf_graph_builders() -> Iterable[GraphBuilder]:
    """Reads ONNX models."""
    from nncf_onnx.builder import OnnxGraphBuilder

    return [OnnxGraphBuilder()]


@hookimpl
def nncf_target_point_inserters() -> Iterable[TargetPointInserter]:
    """Changes ONNX models."""
    from nncf_onnx.inserter import OnnxTargetPointInserter

    return [OnnxTargetPointInserter()]


@hookimpl
def nncf_statistics_aggregators() -> Iterable[StatisticsAggregator]:
    """Runs ONNX models in onnxruntime."""
    from nncf_onnx.statistics_aggregator import OnnxStatisticsAggregator

    return [OnnxStatisticsAggregator()]
