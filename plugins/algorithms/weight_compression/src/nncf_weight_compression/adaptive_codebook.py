"""Codebooks that are fitted to the weights (mode ADAPTIVE_CODEBOOK), one for each or for those of all blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.numerics.arrays import Array
from nncf_core.numerics.many import map_tensors
from nncf_core.refining import layer_inputs
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_weight_compression.codebook_fitting import Adaptive, Histogram, histogram_of, losses_of, tables_for
from nncf_weight_compression.selection import Assignment, Weight


def importance_requests(weights: Sequence[Weight], graph: Graph) -> Iterator[StatisticsRequest]:
    """``E[x²]`` of every input channel of the layers that take the weights."""
    for weight in weights:
        for taken in layer_inputs(graph, weight.constant.name):
            yield StatisticsRequest(taken.point, "mean_square", taken.axis)


def fit_tables(
    assignments: Sequence[Assignment], adaptive: Adaptive, graph: Graph, statistics: Statistics, context: Context
) -> dict[str, np.ndarray]:
    """A table for each of the weights, by the constant's name; float32, increasing."""
    families: dict[object, list[Assignment]] = {}
    joined: dict[object, Histogram] = {}
    works = _works(assignments, histogram_of, graph, statistics)
    for assignment, histogram in _done(works, assignments, "Fitting codebooks", context):
        family = family_of(assignment) if adaptive.across_blocks else assignment.weight.constant.name
        families.setdefault(family, []).append(assignment)
        joined[family] = joined[family] + histogram if family in joined else histogram
    tables = {family: tables_for(histogram, adaptive) for family, histogram in joined.items()}
    _settle(tables, families, graph, statistics, context)
    return {each.weight.constant.name: tables[family][0] for family, members in families.items() for each in members}


def _settle(
    tables: dict[object, tuple[np.ndarray, ...]],
    families: Mapping[object, Sequence[Assignment]],
    graph: Graph,
    statistics: Statistics,
    context: Context,
) -> None:
    """Choose among tables that histograms cannot tell apart by what they really lose."""
    open_ones = {family: candidates for family, candidates in tables.items() if len(candidates) > 1}
    members = [(family, each) for family in open_ones for each in families[family]]
    works = chain.from_iterable(
        _works([each], partial(losses_of, tables=tables[family]), graph, statistics) for family, each in members
    )
    losses = {family: np.zeros(len(candidates)) for family, candidates in open_ones.items()}
    done = _done(works, [each for _, each in members], "Comparing codebooks", context)
    for (family, _), (_, loss) in zip(members, done, strict=True):
        losses[family] += loss
    for family, candidates in open_ones.items():
        tables[family] = (candidates[int(losses[family].argmin())],)


def family_of(assignment: Assignment) -> object:
    """What weights at the same place of repeated blocks have in common: names but for numbers, and shapes."""
    weight = assignment.weight
    names = [re.sub(r"\d+", "#", name) for name in (weight.node.name, weight.constant.name)]
    return (*names, weight.constant.shape, weight.layout, assignment.group_size)


def _works(
    assignments: Sequence[Assignment], function: Callable[..., Any], graph: Graph, statistics: Statistics
) -> Iterator[tuple[Any, Array]]:
    """Calls of a function with each weight, for :func:`~nncf_core.numerics.many.map_tensors`."""
    for assignment in assignments:
        weight = assignment.weight
        work = partial(
            function,
            reduction_axes=weight.layout.reduction_axes,
            group_axis=assignment.group_axis,
            group_size=assignment.group_size,
            importance=_importance(weight, graph, statistics),
            name=weight.constant.name,
        )
        yield work, weight.constant.array()


def _done(
    works: Iterable[tuple[Any, Array]], assignments: Sequence[Assignment], title: str, context: Context
) -> Iterator[tuple[Assignment, Any]]:
    """The results of calls, in order; weights are given back after theirs."""
    results = map_tensors(context.executor, works)
    shown = context.progress.track(assignments, title, len(assignments))
    with closing(results):
        for assignment, result in zip(shown, results, strict=True):
            assignment.weight.constant.release()
            yield assignment, result


def _importance(weight: Weight, graph: Graph, statistics: Statistics) -> np.ndarray | None:
    """``E[x²]`` of each input channel, added over the layers that take the weight; ``None`` where it is not known."""
    found = [statistics[request] for request in importance_requests([weight], graph) if request in statistics]
    channels = weight.constant.shape[weight.layout.reduction_axes[-1]]
    fitting = [squares for squares in found if squares.shape == (channels,)]
    return np.sum(fitting, axis=0) if fitting and len(weight.layout.reduction_axes) == 1 else None
