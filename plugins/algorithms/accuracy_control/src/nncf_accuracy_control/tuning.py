"""Other parameters of quantization, tried one after the other before anything is reverted.

Coordinate descent: for each thing that an algorithm says may differ, all its alternatives are measured with the best
of what came before, and the best is kept. Scores are of whole sets of parameters: none outlives a change of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import frozen

from nncf_accuracy_control.measures import Measure
from nncf_core.contracts import Context, TunableAlgorithm
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.trials import Trials


@frozen
class Tuned:
    """Parameters that measure best.

    :param measure: of the model with all edits.
    :param changed: what differs from what was given, as ``algorithm.key``.
    """

    trials: Trials
    measure: float
    changed: tuple[str, ...]


def tuned(trials: Trials, measure: Measure, base: float, context: Context) -> Tuned:
    """The best parameters that are found; the given ones where none measure better.

    :param base: the measure of the model with all edits.
    """
    trials.announce()
    best, changed = Tuned(trials, base, ()), list[str]()
    scores = {_key(trials): base}
    for name, dimension in _dimensions(trials):
        before = best
        for params in _alternatives(before.trials, name, dimension):
            try:
                other = before.trials.rerun({name: params})
            except ParameterNotSupportedError:
                continue  # what a device, or another parameter, excludes
            key = _key(other)
            if key not in scores:
                scores[key] = measure.prepare(other.trial())()
                context.note(f"Tried {name}.{dimension}: {measure.title} {scores[key]:.6g} after {base:.6g}.")
            if scores[key] > best.measure:
                best = Tuned(other, scores[key], ())
        if best is not before:
            changed.append(f"{name}.{dimension}")
    return Tuned(best.trials, best.measure, tuple(changed))


def _dimensions(trials: Trials) -> Iterator[tuple[str, str]]:
    for step in trials.sections:
        if isinstance(step.algorithm, TunableAlgorithm):
            yield from ((step.algorithm.name, key) for key in step.algorithm.alternatives(step.params))


def _alternatives(trials: Trials, name: str, dimension: str) -> list[Any]:
    step = next(step for step in trials.sections if step.algorithm.name == name)
    assert isinstance(step.algorithm, TunableAlgorithm)
    return [params for params in step.algorithm.alternatives(step.params)[dimension] if params != step.params]


def _key(trials: Trials) -> str:
    return repr([step.params for step in trials.sections])
