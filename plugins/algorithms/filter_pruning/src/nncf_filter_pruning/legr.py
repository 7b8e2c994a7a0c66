"""Coefficients by which filters of different layers are compared, found by evolution.

LeGR (Chin et al. 2020, https://arxiv.org/abs/1904.12368): the importance of a filter is ``factor · norm² + summand``,
with two numbers for each layer, which regularized evolution finds (Real et al. 2019, https://arxiv.org/abs/1802.01548):
a child of the best of a few candidates takes the place of the oldest one. A candidate is as good as the model that is
pruned by it, and trained for some steps, turns out to be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from attrs import frozen

from nncf_core.errors import InvalidPathError, ValidationError
from nncf_core.files import replacing
from nncf_filter_pruning.parameters import LegrSettings


@frozen
class Candidate:
    """Coefficients of layers, in their order.

    :param factors: above zero.
    :param summands: as large as importances.
    :param score: how good the model is, pruned by them.
    """

    factors: np.ndarray
    summands: np.ndarray
    score: float = -np.inf


def search(
    importances: Mapping[str, np.ndarray],
    score: Callable[[Mapping[str, tuple[float, float]]], float],
    settings: LegrSettings,
    tell: Callable[[Iterable[int]], Iterable[int]] = lambda generations: generations,
) -> dict[str, tuple[float, float]]:
    """The best coefficients that were tried, by name of the layer.

    :param importances: of the filters of each layer, without coefficients, which tell how large summands are.
    :param score: how good the model is, pruned by coefficients.
    :param tell: wraps the counter, to show progress.
    """
    names, numbers = list(importances), np.random.default_rng(settings.random_seed)
    spread = np.array([float(np.std(importances[name])) for name in names])
    population: list[Candidate] = []
    best: Candidate | None = None
    for generation in tell(range(settings.generations)):
        if generation == 0:
            child = Candidate(np.ones(len(names)), np.zeros(len(names)))
        elif generation < settings.population_size:
            factors = np.exp(numbers.normal(0, settings.scale_sigma, len(names)))
            child = Candidate(factors, numbers.normal(0, 1, len(names)) * spread)
        else:
            child = _child(population, spread, settings, numbers)
        child = Candidate(child.factors, child.summands, score(_named(names, child)))
        population.append(child)
        if len(population) > settings.population_size:
            population.pop(0)
        if best is None or child.score > best.score:
            best = child
    return {} if best is None else _named(names, best)


def _child(
    population: list[Candidate], spread: np.ndarray, settings: LegrSettings, numbers: np.random.Generator
) -> Candidate:
    """A parent's coefficients, of which some change."""
    drawn = numbers.integers(0, len(population), settings.num_samples)
    parent = max((population[int(index)] for index in drawn), key=lambda candidate: candidate.score)
    count = max(round(settings.mutate_percent * len(spread)), 1)
    changed = numbers.choice(len(spread), count, replace=False)
    factors, summands = parent.factors.copy(), parent.summands.copy()
    factors[changed] *= np.exp(numbers.normal(0, settings.scale_sigma, count))
    summands[changed] += numbers.normal(0, 1, count) * spread[changed]
    return Candidate(factors, summands)


def _named(names: list[str], candidate: Candidate) -> dict[str, tuple[float, float]]:
    return {
        name: (float(factor), float(summand))
        for name, factor, summand in zip(names, candidate.factors, candidate.summands, strict=True)
    }


def save(coefficients: Mapping[str, tuple[float, float]], path: Path) -> None:
    """Write coefficients as JSON: ``{layer: [factor, summand]}``.

    :raises InvalidPathError: when the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({name: list(pair) for name, pair in coefficients.items()}, indent=1))
    except OSError as error:
        raise InvalidPathError(f"Cannot write {path}: {error.strerror or error}.") from None


def load(path: Path, names: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Read coefficients that :func:`save` wrote.

    :param names: of the layers that need some.
    :raises InvalidPathError: when there is no such file.
    :raises ValidationError: when it is of another model, or holds something else.
    """
    if not path.is_file():
        raise InvalidPathError(f"There are no ranking coefficients at {path}.")
    try:
        found = {str(name): (float(pair[0]), float(pair[1])) for name, pair in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise ValidationError(f"{path} holds no ranking coefficients: {error}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise ValidationError(
            f"{path} has no ranking coefficients for the layer {missing[0]!r}: it is of another model."
        )
    return found
