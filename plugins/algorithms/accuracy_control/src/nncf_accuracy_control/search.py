"""How many of the ranked groups are reverted: halving over what a cheap measure predicts, and few verifications.

Reverting one group after the other takes a validation for each. Here a *measure* of a model, taken on a part of the
data, says where in the list the metric should be good enough: it is translated into the metric by the models that were
validated so far, linearly between them. Only what is predicted to be the first such place is validated, and what that
shows makes the next prediction better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from attrs import define, field

Measure = Callable[[int], float]
Validate = Callable[[int], float]


@define
class Prediction:
    """The metric of a model by its measure, from models whose metric is known.

    :param points: measure and metric of each.
    """

    points: list[tuple[float, float]] = field(factory=list)

    def add(self, measure: float, metric: float) -> None:
        """One more model is known."""
        self.points.append((measure, metric))

    def metric(self, measure: float) -> float:
        """What a measure stands for: linear between known models, without end beyond them, and never falling."""
        known: dict[float, list[float]] = {}
        for at, metric in self.points:
            known.setdefault(at, []).append(metric)
        places = sorted(known)
        metrics = np.maximum.accumulate([np.mean(known[place]) for place in places])
        return float(np.interp(measure, places, metrics))


def fewest(
    most: int, limit: int, measure: Measure, validate: Validate, is_enough: Callable[[float], bool], known: Prediction
) -> int | None:
    """The least number of groups whose reversal is verified to be enough; ``None`` when no tried number is.

    :param most: number of groups.
    :param limit: how many validations there may be.
    :param measure: of the model with the first groups reverted; the higher the better. Called with 1 to ``most``.
    :param validate: its metric.
    :param is_enough: whether a metric is.
    :param known: the models that were validated before; those of the search are added.
    """
    failing, enough = 0, None
    for validations in range(limit):
        number = _first(failing, most if enough is None else enough, lambda n: is_enough(known.metric(measure(n))))
        if enough is None:
            if validations >= 2:  # the measure promises too much: not one by one
                number = max(number, min(2 * failing, most))
        elif number >= enough or not is_worth(validations, number, enough - number, most):
            break
        metric = validate(number)
        known.add(measure(number), metric)
        if is_enough(metric):
            enough = number
        else:
            failing = number
        if failing == most or (enough is not None and enough - failing == 1):
            break
    return enough


def is_worth(validations: int, number: int, gain: int, most: int) -> bool:
    """Whether one more validation is worth what it may give back.

    Two were made before the search. Where reverting one by one would have taken twice as many, or a tenth of all groups
    may be kept, it is.

    :param number: how many groups would be reverted.
    :param gain: how many of them may be kept.
    :param most: number of groups.
    """
    return 2 * (2 + validations + 1) <= 2 + number or 10 * gain >= most


def _first(failing: int, enough: int, holds: Callable[[int], bool]) -> int:
    """The first number above ``failing`` for which something holds, by halving; ``enough`` where it does for none."""
    while enough - failing > 1:
        middle = (failing + enough) // 2
        if holds(middle):
            enough = middle
        else:
            failing = middle
    return enough


def unneeded(
    reverted: Sequence[int], measure: Callable[[frozenset[int]], float], holds: Callable[[float], bool], tries: int
) -> frozenset[int]:
    """Groups that need not be reverted beside the others, as a measure predicts; the last in the ranking first.

    :param tries: how many groups are tried.
    """
    kept = frozenset(reverted)
    given_back: list[int] = []
    for group in [*reversed(reverted)][:tries]:
        if len(kept) > 1 and holds(measure(kept - {group})):
            kept -= {group}
            given_back.append(group)
    return frozenset(given_back)
