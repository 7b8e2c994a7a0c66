"""How much better a model is than another, cheaply: on the items where quantization changes most.

Either the user's metric on these items, or the error of outputs against those of the original model,
``Σ(y - ŷ)² / Σy²``, with a minus, so that a higher number is better in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from attrs import define, frozen

from nncf_accuracy_control.evaluation import BadFunctionError, Evaluator, Outcome
from nncf_core.errors import UnsupportedBackendError, UnsupportedDatasetError
from nncf_core.log import nncf_logger
from nncf_core.trials import Trial, Trials

_COMPARED = 64
"""Items that outputs are compared on: errors are numbers, of which fewer say as much as hits and misses of many."""

_LIMIT = 256 << 20
"""Bytes of the original model's outputs that are kept."""


class Measure(Protocol):
    """Says how good models are."""

    @property
    def title(self) -> str:
        """What is measured, for people."""

    @property
    def items(self) -> int:
        """Number of items that it is measured on."""

    @property
    def original(self) -> float:
        """That of the original model."""

    @property
    def calls(self) -> bool:
        """Whether the user's function is called."""

    def prepare(self, trial: Trial) -> Callable[[], float]:
        """Make a model ready; what is returned measures it, the higher the better."""


@define
class MetricMeasure:
    """The user's metric on some items."""

    evaluator: Evaluator
    indices: Sequence[int]
    original: float
    title: str = "metric"
    calls: bool = True

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.indices)

    def prepare(self, trial: Trial) -> Callable[[], float]:
        """Make a deployed model."""
        deployed = trial.deployed()
        return lambda: self.evaluator.some(deployed, self.indices).metric


@define
class GivenOutputsMeasure:
    """The error of the outputs that the user's function gives."""

    evaluator: Evaluator
    indices: Sequence[int]
    references: Sequence[tuple[np.ndarray, ...]]
    title: str = "error of outputs"
    original: float = 0.0
    calls: bool = True

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.indices)

    def prepare(self, trial: Trial) -> Callable[[], float]:
        """Make a deployed model."""
        deployed = trial.deployed()

        def measured() -> float:
            outputs = self.evaluator.some(deployed, self.indices).outputs
            if outputs is None:
                raise BadFunctionError(
                    "gives outputs of some models and none of others; give a list beside the metric always, or never."
                )
            return -float(np.mean(_errors(self.references, outputs)))

        return measured


@define
class OutputsMeasure:
    """The error of the model's own outputs; the user's function is not called."""

    indices: Sequence[int]
    references: Sequence[tuple[np.ndarray, ...]]
    title: str = "error of outputs"
    original: float = 0.0
    calls: bool = False

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.indices)

    def prepare(self, trial: Trial) -> Callable[[], float]:
        """Nothing before it is run."""
        return lambda: -float(np.mean(_errors(self.references, trial.outputs(self.indices))))


@frozen
class Evidence:
    """What is known before models are compared.

    :param original: what the function says of the original model.
    :param quantized: of the one that has all edits.
    """

    original: Outcome
    quantized: Outcome


def measure_for(
    trials: Trials, quantized: Trial, evidence: Evidence, evaluator: Evaluator, size: int, given: int | None
) -> Measure:
    """The measure that the function allows: by items' metrics, by their outputs, or by what models give.

    Hits and misses are too coarse to rank by, where outputs can be compared.

    :param size: how many items there may be.
    :param given: how many the user wants; ``None``: as many as are needed.
    """
    first, second = evidence.original, evidence.quantized
    if first.outputs is not None and second.outputs is not None:
        indices = _largest(_errors(first.outputs, second.outputs), given or min(size, _COMPARED))
        return GivenOutputsMeasure(evaluator, indices, [first.outputs[index] for index in indices])
    has_values = first.values is not None and second.values is not None
    if not has_values or _is_coarse(first, second):
        try:
            return _by_outputs(trials, quantized, evaluator.items, given or min(size, _COMPARED))
        except (UnsupportedDatasetError, UnsupportedBackendError) as error:
            # items are no inputs, as where they are pairs of one and a label
            nncf_logger.debug("Outputs are not compared: %s", error)
    if first.values is not None and second.values is not None:
        indices = _largest(first.values - second.values, given or size)
        # where the metric is the items' mean, it is known on any of them
        known = np.isclose(first.values.mean(), first.metric) and np.isclose(second.values.mean(), second.metric)
        metric = float(first.values[indices].mean()) if known else _metric(trials, evaluator, indices)
        return MetricMeasure(evaluator, indices, metric)
    step = max(evaluator.items // (given or size), 1)
    spread = range(0, evaluator.items, step)[: given or size]
    return MetricMeasure(evaluator, spread, _metric(trials, evaluator, spread))


def _is_coarse(first: Outcome, second: Outcome) -> bool:
    """Whether items are hits or misses: what one group costs is then less than one of them, or chance."""
    assert first.values is not None
    assert second.values is not None
    return len(np.unique(np.concatenate([first.values, second.values]))) <= 2


def _metric(trials: Trials, evaluator: Evaluator, indices: Sequence[int]) -> float:
    return evaluator.some(trials.original().deployed(), indices).metric


def _by_outputs(trials: Trials, quantized: Trial, items: int, size: int) -> OutputsMeasure:
    everything = range(items)
    errors = np.array(
        [
            _error(a, b)
            for a, b in zip(trials.original().outputs(everything), quantized.outputs(everything), strict=True)
        ]
    )
    indices = _largest(errors, size)
    references: list[tuple[np.ndarray, ...]] = []
    kept = 0
    for arrays in trials.original().outputs(indices):
        kept += sum(array.nbytes for array in arrays)
        if kept > _LIMIT and references:
            break
        references.append(arrays)
    return OutputsMeasure(indices[: len(references)], references)


def _largest(errors: np.ndarray, size: int) -> list[int]:
    """Where errors are largest, in ascending order; of equal ones the first."""
    return sorted(np.argsort(-errors, kind="stable")[:size].tolist())


def _errors(references: Sequence[tuple[np.ndarray, ...]], outputs: Iterable[tuple[np.ndarray, ...]]) -> np.ndarray:
    return np.array([_error(a, b) for a, b in zip(references, outputs, strict=True)])


def _error(reference: tuple[np.ndarray, ...], output: tuple[np.ndarray, ...]) -> float:
    """Normalised mean squared error, the mean over outputs that are numbers."""
    found = []
    for wanted, given in zip(reference, output, strict=True):
        if wanted.shape != given.shape:
            found.append(1.0)  # as far off as nothing at all
            continue
        a, b = np.asarray(wanted, np.float64), np.asarray(given, np.float64)
        finite = np.isfinite(a)  # masks may be infinite in both
        off = float(np.square(np.where(finite, a - np.nan_to_num(b), 0)).sum())
        found.append(off / max(float(np.square(np.where(finite, a, 0)).sum()), 1e-30))
    return float(np.mean(found)) if found else 0.0
