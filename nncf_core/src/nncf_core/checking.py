"""What a plugin's algorithm gives, looked at before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

import numpy as np

from nncf_core.errors import PluginError
from nncf_core.graph import Graph
from nncf_core.low_rank import floats_of
from nncf_core.numerics.arrays import Array, all_finite
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import (
    OF_CONSTANTS,
    CompressConstant,
    InsertBias,
    InsertLowRank,
    InsertMask,
    InsertMultiply,
    InsertQuantizer,
    InsertThreshold,
    ReplaceConstant,
    Transformation,
)


def checked_rounds(algorithm: str, rounds: object) -> int:
    """A number of rounds.

    :raises PluginError: when it is none.
    """
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 0:
        raise PluginError(f"Algorithm {algorithm!r}: rounds() gives {rounds!r}; it must give a number of rounds.")
    return rounds


def checked_requests(algorithm: str, requests: Iterable[StatisticsRequest]) -> tuple[StatisticsRequest, ...]:
    """Requests, each once.

    :raises PluginError: when there is something else among them.
    """
    found = tuple(dict.fromkeys(requests))
    for request in found:
        if not isinstance(request, StatisticsRequest):
            raise PluginError(f"Algorithm {algorithm!r}: requests() gives {request!r}, which is no StatisticsRequest.")
    return found


def checked_edits(algorithm: str, edits: Iterable[Transformation], graph: Graph) -> Iterator[Transformation]:
    """Edits of a graph, one by one.

    :raises PluginError: when one is no transformation, names a constant that the graph lacks, or holds numbers that
        are not finite.
    """
    for edit in edits:
        if not isinstance(edit, get_args(Transformation)):
            allowed = ", ".join(kind.__name__ for kind in get_args(Transformation))
            raise PluginError(f"Algorithm {algorithm!r}: transformations() yields {edit!r}; allowed are {allowed}.")
        if isinstance(edit, OF_CONSTANTS) and edit.constant not in graph.constants:
            raise PluginError(
                f"Algorithm {algorithm!r}: {type(edit).__name__} names {edit.constant!r}, which is no constant of the "
                "model; a constant's name is the key in Graph.constants."
            )
        if not all_finite(_numbers(edit)):
            raise PluginError(
                f"Algorithm {algorithm!r}: {type(edit).__name__} of {_target(edit)} holds NaN or infinite values."
            )
        yield edit


def _target(edit: Transformation) -> object:
    if isinstance(edit, InsertBias):
        return edit.node
    return edit.target if isinstance(edit, (InsertMultiply, InsertQuantizer, InsertThreshold)) else edit.constant


def _numbers(edit: Transformation) -> Array:
    """The floating-point numbers of an edit, but for codes; quantizers check their own."""
    if isinstance(edit, CompressConstant):
        return edit.tensor.scale
    if isinstance(edit, (ReplaceConstant, InsertBias)):
        return edit.value
    if isinstance(edit, InsertMultiply):
        return edit.factor
    if isinstance(edit, InsertThreshold):
        return np.asarray(edit.threshold)
    if isinstance(edit, InsertMask):
        return edit.mask
    if isinstance(edit, InsertLowRank):
        return np.concatenate([floats_of(adapter).reshape(-1) for adapter in (edit.down, edit.up)])
    return ()
