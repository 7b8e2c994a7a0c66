"""The five hooks. A plugin is a module (or object) that implements any of them, named by an entry point of
group ``nncf``; it states the version of this interface that it was written for::

    # my_package/plugin.py                      [project.entry-points.nncf]
    from nncf_core.hookspecs import hookimpl    my_plugin = "my_package.plugin"

    NNCF_HOOK_API = 1

    @hookimpl
    def nncf_algorithms():
        from my_package.algorithm import MyAlgorithm
        return [MyAlgorithm()]

The module imports no framework at its top: frameworks are imported inside the hook's objects, when used.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from nncf_core.contracts import (
    Algorithm,
    GraphBuilder,
    StatisticsAggregator,
    StripFormat,
    TargetPointInserter,
)

HOOK_API = 1
"""Version of this interface. It is raised when a plugin written for the previous one would break."""

PROJECT = "nncf"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def nncf_graph_builders() -> Iterable[GraphBuilder]:  # type: ignore[empty-body]
    """Graph builders, one for each framework whose models the plugin can read."""


@hookspec
def nncf_target_point_inserters() -> Iterable[TargetPointInserter]:  # type: ignore[empty-body]
    """Target-point inserters, one for each framework whose models the plugin can change."""


@hookspec
def nncf_statistics_aggregators() -> Iterable[StatisticsAggregator]:  # type: ignore[empty-body]
    """Statistics aggregators, one for each framework whose models the plugin can run."""


@hookspec
def nncf_algorithms() -> Iterable[Algorithm]:  # type: ignore[empty-body]
    """Compression algorithms; each brings the schema fragment of its config section."""


@hookspec
def nncf_strip_formats() -> Iterable[StripFormat]:  # type: ignore[empty-body]
    """Forms that ``nncf.strip`` can bring a model into."""
