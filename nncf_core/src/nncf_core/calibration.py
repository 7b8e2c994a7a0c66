"""Statistics of a model, part by part: what is kept at a time does not grow with the number of layers or samples."""

from __future__ import annotations

import gc
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from attrs import define, field, frozen

from nncf_core.aggregators import Aggregator
from nncf_core.ahead import ahead
from nncf_core.checkpoints import Checkpoints
from nncf_core.collecting import workers
from nncf_core.contracts import Model, Runner, SamplingInserter
from nncf_core.cuts import Part, model_inputs
from nncf_core.errors import NNCFError, UnsupportedDatasetError
from nncf_core.grams import MATRICES, CrossGram
from nncf_core.graph import Graph
from nncf_core.low_rank import product_of
from nncf_core.memory import is_of_memory
from nncf_core.misfits import InputType, by_runtime, misfit, renumbered, type_of
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.work import spread
from nncf_core.progress import Progress
from nncf_core.registry import Backend
from nncf_core.running import feeds_of
from nncf_core.spool import Spool
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import CompressConstant, InsertLowRank, ReplaceConstant, Transformation

T = TypeVar("T")

EXACT, COMPRESSED = "exact", "compressed"
"""Streams of tensors: those of the float model, and those behind compressed weights."""

_CHUNK = 8
"""Samples that are taken, or wait to be run and looked at, at a time."""

_STRETCH = 8
"""Parts that are cut out of the model together first: cutting takes time with the size of what is cut."""


@frozen
class Look:
    """What is known once a part of a model has run.

    :param tensors: names of the tensors that were looked at.
    :param statistics: of the requests for them.
    :param edits: what an earlier run has made of them; ``None``: it has not come so far.
    """

    tensors: tuple[str, ...]
    statistics: Statistics
    edits: tuple[Transformation, ...] | None = None


@define
class Calibration:
    """A model that runs part by part, each on what the parts before it left.

    :param model: one that can be divided, see :class:`~nncf_core.contracts.DividingInserter`. It must not change.
    :param requests: by the name of the tensor.
    :param parts: see :func:`~nncf_core.cuts.parts_of`.
    :param propagates: whether statistics are of what layers get behind compressed weights.
    :param spool: where tensors of samples wait.
    :param checkpoints: where finished parts are written down.
    """

    backend: Backend
    options: Mapping[str, Any]
    model: Model
    graph: Graph
    requests: Mapping[str, tuple[StatisticsRequest, ...]]
    parts: Sequence[Part]
    propagates: bool
    spool: Spool
    progress: Progress
    checkpoints: Checkpoints | None = None
    _edits: dict[str, list[CompressConstant | InsertLowRank]] = field(factory=dict)
    _fresh: list[Transformation] = field(factory=list)
    _given: list[dict[str, InputType]] = field(factory=list)
    _stopped: threading.Event = field(factory=threading.Event)

    def give(self, edits: Iterable[Transformation]) -> None:
        """What has become of weights whose inputs were looked at: layers run with it from now on."""
        for edit in edits:
            self._fresh.append(edit)
            if self.propagates and isinstance(edit, (CompressConstant, InsertLowRank)):
                self._edits.setdefault(edit.constant, []).append(edit)

    def looks(self, items: Iterable[Any]) -> Generator[Look]:
        """Run the parts one by one; yields after each, and goes on with the weights that were given by then.

        Where no part depends on those weights, the next one runs, and the one behind it is made, meanwhile: who stops
        before the end closes this.
        """
        samples, digest = self._take(items)
        done = [] if self.checkpoints is None else self.checkpoints.open(digest)
        for number, edits in enumerate(done):
            yield Look(self.parts[number].tensors, Statistics(), edits)
            self._forget(number)
        if self.checkpoints is not None and done:
            self.spool.reopen(self.checkpoints.index)
        numbers = range(len(done), len(self.parts))
        with closing(self._paced(self._collected(numbers, samples))) as collected:
            for number in self.progress.track(numbers, "Running the model part by part", len(numbers)):
                self._fresh.clear()
                yield Look(self.parts[number].tensors, next(collected))
                if self.checkpoints is not None:
                    self.checkpoints.write(self._fresh, self.spool.index)
                self._forget(number)
                gc.collect(1)  # a run hardly looks for garbage, and what ran the part is in cycles

    def _collected(self, numbers: Sequence[int], samples: int) -> Generator[Statistics]:
        with closing(self._paced(self._made(numbers))) as made:
            for number in numbers:
                yield self._statistics(self.parts[number], next(made), samples)  # which alone holds what runs the part
                self.spool.drop_but(self.parts[number].kept)

    def _made(self, numbers: Sequence[int]) -> Generator[dict[str, Runner]]:
        stretches = _Stretches(self.backend, self.model, self.parts)
        for number in numbers:
            if self._stopped.is_set():
                raise CancelledError
            yield self._runners(self.parts[number], partial(stretches.part, number))

    def _paced(self, items: Generator[T]) -> Generator[T]:
        """Items one ahead, where a part neither depends on what becomes of weights nor on how far that is written."""
        alone = not self.propagates and self.checkpoints is None
        return ahead(items, self._stopped) if alone and isinstance(self.backend.inserter, SamplingInserter) else items

    def _take(self, items: Iterable[Any]) -> tuple[int, str]:
        """Let the inputs of all samples wait; gives their number, and a digest of them."""
        taken = {tensor for part in self.parts for tensor in (*part.starts.values(), *part.tensors)}
        inputs = {tensor: point for tensor, point in model_inputs(self.graph).items() if tensor in taken}
        requests = {tensor: StatisticsRequest(point, "tensors") for tensor, point in inputs.items()}
        found, count = hashlib.sha256(), 0
        assert self.backend.aggregator is not None
        names = {port.tensor: name for name, port in feeds_of(self.graph).items()}
        source = iter(items)
        while chunk := list(islice(source, _CHUNK)):
            try:
                statistics = self.backend.aggregator.collect(self.model, self.graph, tuple(requests.values()), chunk)
            except UnsupportedDatasetError as error:
                raise UnsupportedDatasetError(renumbered(str(error), count)) from error.__cause__
            self._given += [{} for _ in chunk]
            for tensor, request in requests.items():
                for index, array in enumerate(statistics.tensors(request)):
                    self._given[count + index][names[tensor]] = InputType.of(array)
                    self.spool.put(EXACT, tensor, count + index, array)
                    found.update(np.ascontiguousarray(array).tobytes())
            count += len(chunk)
        if count == 0:
            raise UnsupportedDatasetError(
                "The dataset has no items; statistics need at least one. An iterator that was read before is empty."
            )
        return count, found.hexdigest()

    def _runners(self, part: Part, cut: Callable[[], Model]) -> dict[str, Runner]:
        """What runs a part, for each stream.

        :param cut: gives the part, anew each time.
        """
        changed = self._changed(part)
        behind = bool(changed) or any((COMPRESSED, tensor) in self.spool for tensor in part.starts.values())
        crossed = any(request.kind == "cross_gram" for requests in self.requests.values() for request in requests)
        streams = [EXACT] if not behind else [EXACT, COMPRESSED] if crossed else [COMPRESSED]
        # a layer may take an input of the model itself: then there is nothing to run before it
        return {
            stream: self._runner(cut(), changed if stream == COMPRESSED else ()) if part.ends else _nothing
            for stream in streams
        }

    def _statistics(self, part: Part, runners: Mapping[str, Runner], samples: int) -> Statistics:
        """Run a part on all samples; what later parts take waits.

        :param runners: by stream, in their order.
        """
        streams = list(runners)
        of = {request: tensor for tensor in part.tensors for request in self.requests[tensor]}
        statistics = Statistics()

        matrices = {request: tensor for request, tensor in of.items() if request.kind in MATRICES}
        others = {request: tensor for request, tensor in of.items() if request.kind not in MATRICES}

        def run(sample: int) -> tuple[Statistics, dict[str, np.ndarray], dict[str, np.ndarray]]:
            """Statistics of a sample, and the tensors that matrices are made of, in the first and the last stream."""
            if self._stopped.is_set():
                raise CancelledError
            seen = {stream: self._run(each, part, stream, sample) for stream, each in runners.items()}
            found = Statistics()
            for request, tensor in others.items():
                if request.takes(sample):
                    found.aggregator(request).update(seen[streams[-1]][tensor])
            wanted = {
                stream: {name: np.array(seen[stream][name]) for name in matrices.values()}
                for stream in {streams[0], streams[-1]}
            }
            return found, wanted[streams[0]], wanted[streams[-1]]

        # a product of matrices takes one core: those of different statistics are made at the same time, of some samples
        chunk = _CHUNK if matrices else samples
        with ThreadPoolExecutor(self._threads) as executor, ThreadPoolExecutor(workers()[0]) as multiplying:
            for start in range(0, samples, chunk):
                numbers = range(start, min(start + chunk, samples))
                results = _in_turn(executor, run, numbers)
                seen = []
                for found, *tensors in list(results) if matrices else results:
                    statistics.merge(found)
                    if matrices:
                        seen.append(tensors)
                calls = []
                for request, tensor in matrices.items():
                    if own := [pair for number, pair in zip(numbers, seen, strict=True) if request.takes(number)]:
                        calls.append((statistics.aggregator(request), tensor, own))
                deque(spread(multiplying, _update, calls), maxlen=0)
        statistics.items = samples
        return statistics

    @property
    def _threads(self) -> int:
        """How many samples run at the same time."""
        return workers()[0] if isinstance(self.backend.inserter, SamplingInserter) else 1

    def _changed(self, part: Part) -> list[Transformation]:
        """Edits that let a part run with what weights have become."""
        found: list[Transformation] = []
        for name, edits in self._edits.items():
            if any(node.name in part.nodes for node, _ in self.graph.users(name)):
                # runtimes multiply floats faster than codes, as long as there are many rows
                found.append(ReplaceConstant(name, self._values(edits)))
        return found

    def _values(self, edits: Iterable[CompressConstant | InsertLowRank]) -> np.ndarray:
        """What layers compute with: the weight, and what branches add to it."""
        parts = (
            decompress(edit.tensor.on_host()) if isinstance(edit, CompressConstant) else product_of(self.graph, edit)
            for edit in edits
        )
        first = next(parts)
        total: np.ndarray = sum((part.astype(np.float32) for part in parts), start=first)
        return total

    def _runner(self, model: Model, changed: Iterable[Transformation]) -> Runner:
        """Runs a part with edits, which it is given to keep."""
        if changed:
            graph = self.backend.builder.build(model)
            model = self.backend.inserter.apply(model, graph, changed, self.options)
        inserter = self.backend.inserter
        if isinstance(inserter, SamplingInserter):
            return inserter.sampling_runner(model, self._threads)
        return inserter.runner(model)

    def _run(self, run: Runner, part: Part, stream: str, sample: int) -> dict[str, np.ndarray]:
        """The tensors of a part for a sample, until this thread's next one; those for later parts wait for them."""
        outside = {*part.starts.values(), *part.tensors}.difference(part.ends.values())
        given = {tensor: self._waiting(stream, tensor, sample) for tensor in outside}
        try:
            found = run({str(point): given[tensor] for point, tensor in part.starts.items()})
        except NNCFError:
            raise
        except Exception as error:  # runtimes' own errors have no common base
            if is_of_memory(error):
                raise MemoryError(f"a part of the model does not run, {error}") from error
            expected = {name: type_of(port) for name, port in feeds_of(self.graph).items()}
            raise misfit(sample, self._given[sample], expected, by_runtime(error)) from error
        arrays = {tensor: found[str(point)] for point, tensor in part.ends.items()}
        for tensor in part.kept & arrays.keys():
            self.spool.put(stream, tensor, sample, arrays[tensor])
        return {**given, **arrays}

    def _waiting(self, stream: str, tensor: str, sample: int) -> np.ndarray:
        # what no compressed weight has touched is in one stream only
        there = stream if (stream, tensor) in self.spool else EXACT
        return self.spool.get(there, tensor, sample)

    def _forget(self, number: int) -> None:
        """Let go of weights that no later part takes."""
        later = frozenset().union(*(part.nodes for part in self.parts[number + 1 :]))
        for name in list(self._edits):
            if not any(node.name in later for node, _ in self.graph.users(name)):
                del self._edits[name]


def _update(aggregator: Aggregator, tensor: str, seen: Iterable[Sequence[Mapping[str, np.ndarray]]]) -> None:
    """Take samples into account in a matrix, of the exact tensors and of the last ones."""
    for exact, last in seen:
        if isinstance(aggregator, CrossGram):
            aggregator.update_pair(exact[tensor], last[tensor])
        else:
            aggregator.update(last[tensor])


def _in_turn(executor: Executor, function: Callable[[int], T], numbers: Iterable[int]) -> Iterator[T]:
    """Results of calls for numbers, in their order, while a few are ahead.

    Not :func:`~nncf_core.numerics.work.in_order`: the calling thread runs no sample, as runners serve so many threads.
    """
    waiting: deque[Future[T]] = deque()
    try:
        for number in numbers:
            waiting.append(executor.submit(function, number))
            if len(waiting) == _CHUNK:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _nothing(feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    return {}


@define
class _Stretches:
    """Cuts parts out of a model, by way of a few parts that follow each other."""

    backend: Backend
    model: Model
    parts: Sequence[Part]
    _start: int = -1
    _stretch: Model = None

    def part(self, number: int) -> Model:
        """A part, which may be changed."""
        start = number - number % _STRETCH
        if start != self._start:
            parts = self.parts[start : start + _STRETCH]
            made = {tensor for part in parts for tensor in part.ends.values()}
            starts = [point for part in parts for point, tensor in part.starts.items() if tensor not in made]
            ends = [point for part in parts for point in part.ends]
            self._start, self._stretch = start, self.backend.inserter.extract(self.model, starts, ends)
        part = self.parts[number]
        model: Model = self.backend.inserter.extract(self._stretch, list(part.starts), list(part.ends))
        return model
