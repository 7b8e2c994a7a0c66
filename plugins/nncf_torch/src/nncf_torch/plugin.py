"""Entry point of the plugin. Nothing here imports a framework; the hooks' objects do when they are used."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import GraphBuilder, StatisticsAggregator, TargetPointInserter
from nncf_core.hookspecs import hookimpl

NNCF_HOOK_API = 1


@hookimpl
def nncf_graph_builders() -> Iterable[GraphBuilder]:
    """Reads PyTorch models."""
    from nncf_torch.builder import TorchGraphBuilder

    return [TorchGraphBuilder()]


@hookimpl
def nncf_target_point_inserters() -> Iterable[TargetPointInserter]:
    """Changes PyTorch models."""
    from nncf_torch.inserter import TorchTargetPointInserter

    return [TorchTargetPointInserter()]


@hookimpl
def nncf_statistics_aggregators() -> Iterable[StatisticsAggregator]:
    """Runs PyTorch models."""
    from nncf_torch.statistics_aggregator import TorchStatisticsAggregator

    return [TorchStatisticsAggregator()]
