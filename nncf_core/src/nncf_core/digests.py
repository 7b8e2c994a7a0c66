"""What a runtime tells of a tensor in place of its elements, so that these need not leave it.

A smallest element is the smallest of parts' smallest elements, and a mean the mean of means of parts of equal size. So
for kinds that speak of nothing else a runtime may reduce all axes but the samples' and those that some request keeps:
it has the tensor in its cache, in an order of its own, and gives a few numbers instead of millions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
from attrs import frozen

from nncf_core.aggregators import Aggregator, Moment, kind_of
from nncf_core.statistics import StatisticsRequest

_EXTREMA = {"min": ("min",), "max": ("max",), "abs_max": ("min", "max")}

PARTS: Mapping[str, tuple[str, ...]] = {
    **{kind_of(how, what): parts for what, parts in _EXTREMA.items() for how in ("min", "max", "mean")},
    "each_min": ("min",),
    "each_max": ("max",),
    "mean": ("mean",),
    "mean_square": ("mean_square",),
}
"""The parts of a digest that kinds of statistics follow from; other kinds need the tensor."""


MEANS = ("mean", "mean_square")


@frozen
class DigestRequest:
    """What is to be told of a tensor.

    :param parts: names of the parts: ``min``, ``max``, ``mean``, ``mean_square``. One of the means is always among
        them: instructions for extrema may pass over NaN, those for sums do not.
    :param reduced: axes whose elements are put together, in ascending order.
    """

    parts: tuple[str, ...]
    reduced: tuple[int, ...]


@frozen(eq=False)
class Digest:
    """What a runtime tells of a tensor.

    :param shape: of the tensor.
    :param reduced: axes whose elements were put together.
    :param parts: arrays by name, in which reduced axes have length 1; NaN where there is one among the elements.
    """

    shape: tuple[int, ...]
    reduced: tuple[int, ...]
    parts: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, shape: tuple[int, ...], reduced: tuple[int, ...], parts: Mapping[str, np.ndarray]) -> Digest:
        """A digest of what a runtime computed, whose extrema may have passed over NaN."""
        witness = next(parts[name] for name in MEANS if name in parts)
        if np.isnan(np.add.reduce(witness, axis=None)):
            parts = {name: np.where(np.isnan(witness), witness, array) for name, array in parts.items()}
        return cls(shape, reduced, parts)


def digest_of(requests: Iterable[StatisticsRequest], rank: int) -> DigestRequest | None:
    """What has to be told of a tensor for some requests; ``None`` when they need the tensor.

    :param requests: those of one tensor.
    :param rank: number of its axes.
    """
    wanted: set[str] = set()
    kept = {0}
    for request in requests:
        parts = PARTS.get(request.kind)
        axis = 0 if request.axis is None else request.axis
        if parts is None or not -rank <= axis < rank:
            return None
        wanted.update(parts)
        kept.add(axis % rank)
    reduced = tuple(axis for axis in range(rank) if axis not in kept)
    if not wanted or not reduced:
        return None
    if wanted.isdisjoint(MEANS):
        wanted.add("mean")
    return DigestRequest(tuple(sorted(wanted)), reduced)


def update(aggregator: Aggregator, request: StatisticsRequest, seen: np.ndarray | Digest) -> None:
    """Let an aggregator take a tensor into account, or what is told of it."""
    if not isinstance(seen, Digest):
        aggregator.update(seen)
    elif prod(seen.shape):
        found = [seen.parts[part] for part in PARTS[request.kind]]
        if isinstance(aggregator, Moment):
            aggregator.update_means(found[0], prod(seen.shape) // found[0].size)
        else:
            aggregator.update(found[0] if len(found) == 1 else np.concatenate(found, axis=seen.reduced[0]))
