"""Groups in the order in which they are reverted: what costs most comes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from attrs import frozen

from nncf_accuracy_control.groups import Group
from nncf_accuracy_control.measures import Measure
from nncf_core.contracts import Context
from nncf_core.numerics.work import Call, in_order
from nncf_core.trials import Trial, Trials

_AHEAD = 2
"""Models that are ready, or in the making, at a time."""


@frozen
class Ranked:
    """A group and what it costs.

    :param index: of the group.
    :param cost: how much better the measure is without its quantizers, beside all others or none.
    """

    index: int
    group: Group
    cost: float


def ranked(
    trials: Trials,
    groups: Sequence[Group],
    measure: Measure,
    base: float,
    with_weights: bool,
    alone: bool,
    workers: int | None,
    context: Context,
) -> list[Ranked]:
    """The groups, those first that cost most; of equal ones the smaller first, then in graph order.

    :param base: the measure of the model with all edits.
    :param with_weights: whether reverting makes weights float, too. Models are ranked as they will be made.
    :param alone: whether a group costs what the model loses with its quantizers alone, rather than what it regains
        without them. Where much is lost, what one group costs is hidden behind others.
    :param workers: threads that measure; ``None``: models are made by others meanwhile, and where the user's function
        is called, one calls it.
    """
    everything = frozenset[int]().union(*(group.reverted(with_weights) for group in groups))
    made = [
        trials.trial(everything - group.reverted(with_weights) if alone else group.reverted(with_weights))
        for group in groups
    ]
    shown = context.progress.track(
        _measured(made, measure, workers, trials.is_parallel, context), "Ranking groups of quantizers", len(groups)
    )
    scores = list(shown)
    if alone:
        without = measure.prepare(trials.trial(everything))()
        costs = [without - score for score in scores]
    else:
        costs = [score - base for score in scores]
    found = [Ranked(index, group, cost) for index, (group, cost) in enumerate(zip(groups, costs, strict=True))]
    return sorted(found, key=lambda each: (-each.cost, each.group.size, each.index))


def _measured(
    made: Iterable[Trial], measure: Measure, workers: int | None, parallel: bool, context: Context
) -> Iterator[float]:
    """The measure of each model, in order; the same whatever the number of threads."""
    if not parallel or workers == 1:
        yield from (measure.prepare(trial)() for trial in made)
    elif workers is None and measure.calls:
        # users' functions may not be made for threads: models are made in others, and measured here
        for ready in in_order(context.executor, (Call(measure.prepare, (trial,)) for trial in made), _AHEAD):
            yield ready()
    else:
        own = ThreadPoolExecutor(max(workers - 1, 1)) if workers is not None else nullcontext(context.executor)
        with own as executor:
            calls = (Call(lambda trial: measure.prepare(trial)(), (trial,)) for trial in made)
            yield from in_order(executor, calls, workers or _AHEAD)
