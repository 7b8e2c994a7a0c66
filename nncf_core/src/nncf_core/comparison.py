"""Two models side by side: how near their outputs are, how large they are, and how long they take."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, define, frozen

from nncf_core.collecting import feed_for
from nncf_core.contracts import Runner
from nncf_core.errors import (
    NNCFError,
    UnsupportedDatasetError,
    UnsupportedModelError,
    ValidationError,
    VerificationError,
)
from nncf_core.graph import Graph
from nncf_core.made_inputs import made_inputs
from nncf_core.memory import is_of_memory
from nncf_core.misfits import InputType, by_runtime, misfit, type_of
from nncf_core.progress import Progress, SilentProgress
from nncf_core.registry import registry
from nncf_core.running import feeds_of, usual_runner
from nncf_core.staging import files_of


@frozen
class OutputError:
    """How far an output of the second model is from that of the first, over all items.

    :param snr: ``10·log10(Σ a² / Σ (a − b)²)``, in dB; infinite where they are the same.
    :param cosine: of the angle between all numbers of one and of the other.
    :param largest: largest difference.
    :param agreement: share of the places along all axes but the last where the largest number is at the same index.
    """

    name: str
    snr: float
    cosine: float
    largest: float
    agreement: float


@frozen
class Comparison:
    """What was found.

    :param paths: of the models.
    :param outputs: one for each output of the models.
    :param bytes: of all files of each model.
    :param milliseconds: median time that each model takes for an item; ``None``: not measured.
    :param items: number of items that they were run on.
    :param runs: how often each was timed, one after the other in turns.
    """

    paths: tuple[str, str]
    outputs: tuple[OutputError, ...]
    bytes: tuple[int, int]
    milliseconds: tuple[float, float] | None
    items: int
    runs: int

    def to_json(self) -> dict[str, Any]:
        """Plain data; a ratio that is infinite is ``None``."""
        outputs = [{**asdict(each), "snr": each.snr if math.isfinite(each.snr) else None} for each in self.outputs]
        return {**asdict(self), "outputs": outputs}

    def __str__(self) -> str:
        """Tables in plain text."""
        sizes = [f"{count / 1e6:,.2f} MB" for count in self.bytes]
        rows = [("", *(Path(path).name for path in self.paths), "ratio"), ("size", *sizes, _ratio(self.bytes))]
        if self.milliseconds is not None:
            rows.append(("time", *(f"{each:,.3f} ms" for each in self.milliseconds), _ratio(self.milliseconds)))
        lines = [("output", "SNR, dB", "cosine", "largest difference", "same largest")]
        for each in self.outputs:
            shown = (f"{each.snr:.1f}", f"{each.cosine:.6f}", f"{each.largest:.4g}", f"{100 * each.agreement:.1f} %")
            lines.append((each.name, *shown))
        return f"{_table(rows)}\n\n{_table(lines)}"


def _ratio(pair: Sequence[float]) -> str:
    return f"{pair[0] / pair[1]:.2f}" if pair[1] else ""


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = (
        [
            cell.ljust(w) if index == 0 else cell.rjust(w)
            for index, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def compare(
    first: Path,
    second: Path,
    items: Iterable[Any] | None = None,
    runs: int = 11,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Run two models on the same items, each in its own runtime at its usual settings.

    :param items: as datasets give them; ``None``: random ones, see :func:`~nncf_core.made_inputs.made_inputs`.
    :param runs: how often each is timed; 0: they are not.
    :param clock: gives seconds.
    :raises ValidationError: when the models have not the same inputs, or outputs of the same shapes.
    :raises UnsupportedModelError: when the runtime of a model does not take it.
    :raises UnsupportedDatasetError: when there is no item, one does not fit, or holds NaN.
    :raises VerificationError: when an output holds NaN, or is infinite in one of the models alone: nothing can be said
        of how near they are.
    """
    sides = [_Side.of(path) for path in (first, second)]
    if set(sides[0].inputs) != set(sides[1].inputs):
        raise ValidationError(
            f"The models do not take the same inputs: {first} takes {', '.join(sides[0].inputs)}, {second} takes "
            f"{', '.join(sides[1].inputs)}. Export them with the same names."
        )
    given = _made(sides[0].graph) if items is None else items
    feeds = [feed_for(item, sides[0].inputs, index) for index, item in enumerate(given)]
    if not feeds:
        raise UnsupportedDatasetError(
            "The dataset has no items; comparing needs at least one, of the same inputs for both models."
        )
    _check_feeds(feeds)
    sums: dict[str, _Sums] = {}
    for index, feed in enumerate((progress or SilentProgress()).track(feeds, "Comparing outputs", len(feeds))):
        _add(sums, sides, sides[0].outputs(feed, index), sides[1].outputs(feed, index), index)
    return Comparison(
        (str(first), str(second)),
        tuple(each.error(name) for name, each in sums.items()),
        (sides[0].bytes, sides[1].bytes),
        _timed(sides, feeds, runs, progress or SilentProgress(), clock) if runs else None,
        len(feeds),
        runs,
    )


@frozen
class _Side:
    path: Path
    graph: Graph
    run: Runner
    bytes: int
    inputs: Mapping[str, InputType]

    @classmethod
    def of(cls, path: Path) -> _Side:
        backend = registry().backend_for(path)
        model = backend.builder.open(path, {})
        graph = backend.builder.build(model)
        size = sum(file.stat().st_size for file in files_of(backend.builder, path))
        inputs = {name: type_of(port) for name, port in feeds_of(graph).items()}
        try:
            run = usual_runner(backend, model)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{path} cannot be compared: {error}") from error
        return cls(path, graph, run, size, inputs)

    def outputs(self, feed: Mapping[str, np.ndarray], index: int) -> Mapping[str, np.ndarray]:
        try:
            return self.run(feed)
        except Exception as error:  # runtimes' own errors have no common base
            if is_of_memory(error):
                raise MemoryError(f"{self.path} does not run, {error}") from error
            if isinstance(error, NNCFError) and not isinstance(error, UnsupportedDatasetError):
                raise
            given = {name: InputType.of(array) for name, array in feed.items()}
            raise misfit(index, given, self.inputs, by_runtime(error), str(self.path)) from error


def _check_feeds(feeds: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Whether inputs are numbers; infinite ones may mask something."""
    for index, feed in enumerate(feeds):
        for name, array in feed.items():
            count = _count_nan(np.asarray(array))
            if count:
                raise UnsupportedDatasetError(
                    f"Item {index} of the dataset holds NaN in {count} of {np.size(array)} numbers of the input "
                    f"{name!r}; correct the data, or leave the item out."
                )


def _count_nan(array: np.ndarray) -> int:
    return int(np.isnan(array.astype(np.float64)).sum()) if array.dtype.kind in "fV" else 0


def _made(graph: Graph) -> list[dict[str, np.ndarray]]:
    made = made_inputs(graph)
    if made is None:
        raise UnsupportedDatasetError("Nothing is known of the shape of an input of the model: give a dataset.")
    return [made]


@define
class _Sums:
    signal: float = 0.0
    other: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    same: int = 0
    places: int = 0

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        a, b = a.astype(np.float64), b.astype(np.float64)
        both = np.isinf(a) & (a == b)  # a mask that both models make says nothing
        a, b = np.where(both, 0, a), np.where(both, 0, b)
        off = a - b
        self.signal += float((a * a).sum())
        self.other += float((b * b).sum())
        self.product += float((a * b).sum())
        self.noise += float((off * off).sum())
        self.largest = max(self.largest, float(np.abs(off).max(initial=0.0)))
        if a.ndim and a.size:
            same = a.argmax(-1) == b.argmax(-1)
            self.same += int(same.sum())
            self.places += same.size

    def error(self, name: str) -> OutputError:
        snr = math.inf if self.noise == 0 else 10 * math.log10(max(self.signal, 1e-300) / self.noise)
        length = math.sqrt(self.signal * self.other)
        cosine = self.product / length if length else float(self.noise == 0)
        return OutputError(name, snr, cosine, self.largest, self.same / self.places if self.places else 1.0)


def _add(
    sums: dict[str, _Sums],
    sides: Sequence[_Side],
    mine: Mapping[str, np.ndarray],
    its: Mapping[str, np.ndarray],
    index: int,
) -> None:
    """Take the outputs for an item into account: by their names, or in order where the models name them otherwise.

    :param index: of the item, for errors.
    """
    first, second = (side.path for side in sides)
    pairs = {name: its[name] for name in mine} if set(mine) <= set(its) else dict(zip(mine, its.values(), strict=False))
    if len(pairs) != len(mine):
        raise ValidationError(
            f"{first} has {len(mine)} outputs, {second} has {len(its)}; only models with the same outputs can be "
            "compared."
        )
    for name, array in mine.items():
        if array.shape != pairs[name].shape:
            raise ValidationError(
                f"The output {name!r} has the shape {array.shape} in {first}, and {pairs[name].shape} in {second}."
            )
        _check_outputs(sides, name, (array, pairs[name]), index)
        sums.setdefault(name, _Sums()).add(array, pairs[name])


def _check_outputs(sides: Sequence[_Side], name: str, arrays: tuple[np.ndarray, np.ndarray], index: int) -> None:
    """Whether outputs can be compared.

    :raises VerificationError: when they cannot.
    """
    for side, array in zip(sides, arrays, strict=True):
        count = _count_nan(array)
        if count:
            raise VerificationError(
                f"{side.path} gives NaN in {count} of {array.size} numbers of the output {name!r} for item {index}, so "
                "that the models cannot be compared; look for the layer that it comes from."
            )
    first, second = (array.astype(np.float64) if array.dtype.kind in "fV" else np.zeros(1) for array in arrays)
    alone = (np.isinf(first) | np.isinf(second)) & (first != second)
    if alone.any():
        raise VerificationError(
            f"{sides[0].path} and {sides[1].path} do not give the same infinite numbers in {int(alone.sum())} of "
            f"{first.size} numbers of the output {name!r} for item {index}, so that the models cannot be compared."
        )


def _timed(
    sides: Sequence[_Side],
    feeds: Sequence[Mapping[str, np.ndarray]],
    runs: int,
    progress: Progress,
    clock: Callable[[], float],
) -> tuple[float, float]:
    """Median milliseconds of each. In turns, so that whatever else a machine does meets both alike."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in progress.track(range(runs), "Measuring times", runs):
        for side, times in zip(sides, taken, strict=True):
            start = clock()
            side.run(feeds[number % len(feeds)])
            times.append(1e3 * (clock() - start))
    return statistics.median(taken[0]), statistics.median(taken[1])
