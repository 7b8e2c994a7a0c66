"""What the user's function says of a model, read with care, and how often it was asked."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
from attrs import define, field, frozen

from nncf_core.progress import Progress, SilentProgress
from nncf_core.trials import Trial, Trials


class BadFunctionError(Exception):
    """The function fails, or what it gives cannot be used; the message goes on behind "validation_fn"."""


@frozen
class Outcome:
    """What the function gives.

    :param metric: of all items together.
    :param values: the metric of each item, float64; ``None`` where it does not tell.
    :param outputs: arrays for each item; ``None`` where it does not tell.
    """

    metric: float
    values: np.ndarray | None = field(default=None, eq=False)
    outputs: tuple[tuple[np.ndarray, ...], ...] | None = field(default=None, eq=False)


@define
class Evaluator:
    """Calls the function, and counts.

    :param items: number of items of the validation dataset.
    :param full: calls with all items.
    :param partial: calls with some of them, for ranking.
    """

    trials: Trials
    items: int
    progress: Progress = field(factory=SilentProgress)
    full: int = 0
    partial: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def everything(self, trial: Trial) -> Outcome:
        """What the function says of a model on all items.

        :raises BadFunctionError: when it fails, or gives what cannot be used.
        """
        self.full += 1
        items = _Shown(self.trials.validation.dataset.get_data(), self.progress, self.items)
        return self._called(trial.deployed(), items, self.items)

    def some(self, deployed: Any, indices: Sequence[int]) -> Outcome:
        """What the function says of a deployed model on some items; by several threads at a time, where asked to.

        :raises BadFunctionError: when it fails, or gives what cannot be used.
        """
        with self._lock:
            self.partial += 1
        return self._called(deployed, self.trials.validation.dataset.get_data(list(indices)), len(indices))

    def _called(self, deployed: Any, items: Iterable[Any], number: int) -> Outcome:
        try:
            found = self.trials.validation.function(deployed, items)
        except Exception as error:
            raise BadFunctionError(f"fails: {type(error).__name__}: {str(error).rstrip('.')}.") from error
        return outcome_of(found, number)


@define
class _Shown:
    """Items with their progress, each time they are gone through."""

    _items: Iterable[Any]
    _progress: Progress
    _total: int

    def __iter__(self) -> Iterator[Any]:
        return self._progress.track(self._items, "Validating", self._total)


def outcome_of(found: Any, items: int) -> Outcome:
    """What the function gave, checked.

    :param items: number of items that it was given.
    :raises BadFunctionError: when it is neither a finite number nor a tuple of one and something for each item.
    """
    per_item = None
    metric = found
    if isinstance(found, tuple):
        if len(found) != 2:
            raise BadFunctionError(
                f"gives a tuple of {len(found)}; it must give a number, or a tuple of one and a list for its items."
            )
        metric, per_item = found
    number = _number(metric)
    if number is None:
        raise BadFunctionError(
            f"gives {_what(metric)} as metric; it must give a number, the higher the better, or a tuple of one and a "
            "list with a number or outputs for each item."
        )
    if not math.isfinite(number):
        raise BadFunctionError(
            f"gives the metric {number}; look at what it divides by, and at the outputs of the model."
        )
    if per_item is None:
        return Outcome(number)
    values = _listed(per_item)
    if len(values) != items:
        raise BadFunctionError(
            f"gives {len(values)} values beside the metric for {items} items; give one for each item, or None."
        )
    numbers = [_number(value) for value in values]
    if all(value is not None for value in numbers):
        array = np.array(numbers, np.float64)
        if not np.isfinite(array).all():
            index = int(np.argmin(np.isfinite(array)))
            raise BadFunctionError(
                f"gives {array[index]} as the metric of item {index}; give finite numbers, or None for all of them."
            )
        return Outcome(number, values=array)
    return Outcome(number, outputs=tuple(_outputs(value) for value in values))


def _listed(per_item: Any) -> list[Any]:
    if isinstance(per_item, (str, bytes, dict)) or not isinstance(per_item, Iterable):
        raise BadFunctionError(f"gives {_what(per_item)} beside the metric; it must be a list, or None.")
    return list(per_item)


def _outputs(value: Any) -> tuple[np.ndarray, ...]:
    arrays = [_array(each) for each in (value if isinstance(value, (list, tuple)) else [value])]
    if any(array.dtype.kind not in "fiub" for array in arrays):
        raise BadFunctionError(
            f"gives {_what(value)} for an item; it must be a number, or a list of arrays of numbers."
        )
    return tuple(array.astype(np.float32) for array in arrays)


def _array(value: Any) -> np.ndarray:
    try:
        detached = value.detach().cpu() if hasattr(value, "detach") else value
        return np.asarray(detached)
    except (TypeError, ValueError, RuntimeError):
        return np.array(None)  # of no number's kind


def _number(value: Any) -> float | None:
    """A number of any library; ``None`` for what is none."""
    if isinstance(value, (bool, np.bool_, str, bytes)):
        return None
    if isinstance(value, Real):
        return float(value)
    if hasattr(value, "item") and getattr(value, "shape", None) is not None and math.prod(value.shape) == 1:
        item = value.item()
        return float(item) if isinstance(item, Real) and not isinstance(item, bool) else None
    return None


def _what(value: Any) -> str:
    return "None" if value is None else f"{value!r:.60} ({type(value).__name__})"
