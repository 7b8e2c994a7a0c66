"""Which elements of weights are kept: the most important ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from nncf_core.numerics.arrays import Array, space_of

Importance: TypeAlias = Callable[[Array], Array]
"""Of a weight: float32 numbers in its shape."""


def absolute(weight: Array) -> Array:
    """Magnitudes."""
    xp = space_of(weight).xp
    return xp.abs(xp.astype(weight, xp.float32))


def normed(weight: Array) -> Array:
    """Magnitudes over the Euclidean norm of the weight; of one that is all zeros, zeros."""
    xp = space_of(weight).xp
    magnitude = absolute(weight)
    # in float64, so that all libraries, which sum in other orders, come to the same float32
    norm = xp.astype(xp.linalg.vector_norm(xp.astype(magnitude, xp.float64)), xp.float32)
    return magnitude / xp.where(norm > 0, norm, xp.ones_like(norm))


IMPORTANCE: Mapping[str, Importance] = {"abs": absolute, "normed_abs": normed}
"""By the names of a config."""


def thresholds(
    weights: Mapping[str, Callable[[], Array]], level: float, importance: Importance, *, of_all: bool
) -> dict[str, float]:
    """Numbers that importance has to exceed, by the names of weights, so that a share of elements does not.

    Elements of equal importance are all kept, or none is: with many such, there may be more zeros than asked for.

    :param weights: read one after another.
    :param of_all: whether the share is of all weights together, or of each.
    """
    if not of_all:
        return {name: _threshold([importance(read())], level) for name, read in weights.items()}
    shared = _threshold([importance(read()) for read in weights.values()], level) if weights else 0.0
    return dict.fromkeys(weights, shared)


def _threshold(parts: list[Array], level: float) -> float:
    """The largest number that is not kept; below zero when all are."""
    xp = space_of(parts[0]).xp
    flat = [xp.reshape(part, (-1,)) for part in parts]
    numbers = flat[0] if len(flat) == 1 else xp.concat(flat)
    zeros = round(level * numbers.shape[0])
    return -1.0 if zeros == 0 else float(xp.sort(numbers)[zeros - 1])
