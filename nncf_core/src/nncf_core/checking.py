"""What a plugin's algorithm gives, looked at before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import get_args

import numpy as np

from nncf_core.errors import NNCFError, PluginError, told
from nncf_core.graph import Graph
from nncf_core.low_rank import floats_of
from nncf_core.memory import memory_error_behind
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
    ResizeOutput,
    Transformation,
)

_OF_USER = "_nncf_of_user"
"""Attribute of errors of functions that are the user's own."""


@contextmanager
def named(algorithm: str, method: str) -> Iterator[None]:
    """What a method of an algorithm raises within the block names the algorithm.

    Errors of the framework, of too little memory and of :func:`unnamed` functions stay as they are.

    :raises PluginError: in place of any other error.
    """
    try:
        yield
    except NNCFError:
        raise
    except Exception as error:  # the algorithm may be anyone's code
        if getattr(error, _OF_USER, False) or memory_error_behind(error) is not None:
            raise
        raise PluginError(
            f"Algorithm {algorithm!r}: {method}() fails with {told(error)} Report this to those who made the plugin; "
            "this error's __cause__, or nncf -v, shows where it is."
        ) from error


@contextmanager
def unnamed() -> Iterator[None]:
    """What the user's own functions raise within the block stays as it is, whichever algorithm has them called."""
    try:
        yield
    except Exception as error:
        setattr(error, _OF_USER, True)
        raise


def named_edits(algorithm: str, edits: Iterable[Transformation]) -> Iterator[Transformation]:
    """The edits that an algorithm gives, as it gives them.

    :raises PluginError: when it fails, or gives nothing that could be gone through.
    """
    if not isinstance(edits, Iterable):
        raise PluginError(
            f"Algorithm {algorithm!r}: transformations() gives {edits!r}; it must give edits, such as a list of them, "
            "or be a generator. An empty list leaves the model as it is."
        )
    with named(algorithm, "transformations"):
        yield from edits


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
    if isinstance(edit, (InsertBias, ResizeOutput)):
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
