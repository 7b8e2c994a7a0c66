"""Entry point of the plugin. The backend, which needs the framework, is imported when it is asked for."""

from nncf_core.hookspecs import hookimpl

NNCF_HOOK_API = 1


@hookimpl
def nncf_graph_builders():
    """Reads networks."""
    from toy_framework.backend import GraphBuilder

    return [GraphBuilder()]


@hookimpl
def nncf_target_point_inserters():
    """Changes networks."""
    from toy_framework.backend import TargetPointInserter

    return [TargetPointInserter()]


@hookimpl
def nncf_statistics_aggregators():
    """Runs networks."""
    from toy_framework.backend import StatisticsAggregator

    return [StatisticsAggregator()]
