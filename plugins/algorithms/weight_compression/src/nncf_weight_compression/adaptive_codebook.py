"""Codebooks that are fitted to the weights (mode ADAPTIVE_CODEBOOK), one for each or for those of all blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.numerics.arrays import Array
from nncf_core.numerics.many import map_tensors
from nncf_core.refining import layer_inputs
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_weight_compression.codebook_fitting import Adaptive, Histogram, histogram_of, table_for
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
    calls = (_work(assignment, graph, statistics) for assignment in assignments)
    histograms = map_tensors(context.executor, calls)
    families: dict[object, list[str]] = {}
    joined: dict[object, Histogram] = {}
    shown = context.progress.track(assignments, "Fitting codebooks", len(assignments))
    with closing(histograms):
        for assignment, histogram in zip(shown, histograms, strict=True):
            constant = assignment.weight.constant
            constant.release()
            family = family_of(assignment) if adaptive.across_blocks else constant.name
            families.setdefault(family, []).append(constant.name)
            joined[family] = joined[family] + histogram if family in joined else histogram
    tables = {family: table_for(histogram, adaptive) for family, histogram in joined.items()}
    return {name: tables[family] for family, names in families.items() for name in names}


def family_of(assignment: Assignment) -> object:
    """What weights at the same place of repeated blocks have in common: names but for numbers, and shapes."""
    weight = assignment.weight
    names = [re.sub(r"\d+", "#", name) for name in (weight.node.name, weight.constant.name)]
    return (*names, weight.constant.shape, weight.layout, assignment.group_size)


def _work(assignment: Assignment, graph: Graph, statistics: Statistics) -> tuple[Any, Array]:
    weight = assignment.weight
    work = partial(
        histogram_of,
        reduction_axes=weight.layout.reduction_axes,
        group_axis=assignment.group_axis,
        group_size=assignment.group_size,
        importance=_importance(weight, graph, statistics),
        name=weight.constant.name,
    )
    return work, weight.constant.array()


def _importance(weight: Weight, graph: Graph, statistics: Statistics) -> np.ndarray | None:
    """``E[x²]`` of each input channel, added over the layers that take the weight; ``None`` where it is not known."""
    found = [statistics[request] for request in importance_requests([weight], graph) if request in statistics]
    channels = weight.constant.shape[weight.layout.reduction_axes[-1]]
    fitting = [squares for squares in found if squares.shape == (channels,)]
    return np.sum(fitting, axis=0) if fitting and len(weight.layout.reduction_axes) == 1 else None
