"""Sections that refine what the section before them does to weights: their part of a run."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from nncf_core.calibration import Calibration, Look
from nncf_core.checking import checked_requests
from nncf_core.checkpoints import Checkpoints
from nncf_core.contracts import Context, DividingInserter, Model, SamplingInserter, propagates, samples
from nncf_core.cuts import parts_of
from nncf_core.dataset import Dataset
from nncf_core.errors import UnsupportedBackendError, UnsupportedDatasetError, ValidationError
from nncf_core.graph import Graph, OpKind
from nncf_core.origins import Origin
from nncf_core.progress import Progress
from nncf_core.refinement import Refinement
from nncf_core.refining import PlannedConstant, layer_inputs
from nncf_core.registry import Backend
from nncf_core.sections import Step
from nncf_core.spool import LIMIT, Spool
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.statistics_cache import Counted, StatisticsCache
from nncf_core.transformations import PointKind, TargetPoint, Transformation

_MOST = 1 << 27
"""Bytes of statistics, and of the tensors that they are of, in memory at a time, unless one tensor alone takes more."""

_ROWS = 2048
"""Vectors of each tensor that are about in memory at a time."""

_MATRICES = ("gram", "cross_gram")


@frozen
class RefiningRun:
    """What refining steps need of a run.

    :param model: the working model.
    :param graph: its graph.
    :param main: the step before them.
    :param steps: the steps, each with its context.
    :param folder: where an interrupted calibration goes on; ``None``: it does not.
    """

    backend: Backend
    options: Mapping[str, Any]
    dataset: Dataset[Any, Any] | None
    progress: Progress
    model: Model
    graph: Graph
    main: Step
    steps: tuple[tuple[Step, Context], ...]
    folder: Path | None = None

    @contextmanager
    def edits(
        self, planned: Sequence[PlannedConstant], edits: Iterable[Transformation]
    ) -> Iterator[Iterable[Transformation]]:
        """What the steps make of edits, for as long as the block lasts.

        :param planned: what the edits will compress.
        :raises UnsupportedDatasetError: when a step needs data and there is none.
        """
        refinement = self._refinement(self.graph, planned)
        requests = [request for each in refinement.requests.values() for request in each]
        if not requests or (self.dataset is None and (self._path is None or self._propagates)):
            if self._needing:
                self._check_data()
            yield refinement.edits(edits, (), _ignore)
            return
        if self.backend.aggregator is None:
            raise UnsupportedBackendError(
                f"Algorithm {self.steps[0][0].algorithm.name!r} needs statistics of activations, and no installed "
                f"plugin collects them for {self.backend.builder.title} models."
            )
        light = not self._propagates and all(request.kind not in _MATRICES for request in requests)
        if light and (self._path is not None or not isinstance(self.backend.inserter, SamplingInserter)):
            yield refinement.edits(edits, [self._look(refinement)], _ignore)
            return
        divided = self._divided(refinement)
        if divided is None:
            yield refinement.edits(edits, self._passes(refinement), _ignore)
            return
        model, graph = divided
        refinement = self._refinement(graph, planned)
        with self._folder() as folder:
            calibration = self._calibration(refinement, model, folder)
            yield refinement.edits(edits, self._looks(calibration), calibration.give)
            calibration.spool.clear()

    @property
    def _needing(self) -> list[str]:
        """Names of the algorithms that are of no use without data."""
        return [step.algorithm.name for step, _ in self.steps if getattr(step.algorithm, "needs_data", False)]

    def _check_data(self) -> None:
        if self.dataset is None:
            name = next(iter(self._needing), self.steps[0][0].algorithm.name)
            raise UnsupportedDatasetError(f"Algorithm {name!r} needs calibration data; pass a dataset.")

    def _looks(self, calibration: Calibration) -> Iterator[Look]:
        """Statistics part by part; those that do not depend on compressed weights are read and left in files."""
        if self._path is None or self._propagates:
            yield from calibration.looks(self._items())
            return
        folder, names = self._path.with_suffix(""), "+".join(step.algorithm.name for step, _ in self.steps)
        caches = [StatisticsCache.of(folder, self.graph, names, number) for number in range(len(calibration.parts))]
        if all(cache is not None and cache.file.exists() for cache in caches):
            for part, cache in zip(calibration.parts, caches, strict=True):
                assert cache is not None
                requests = [request for tensor in part.tensors for request in calibration.requests[tensor]]
                yield Look(part.tensors, cache.read(requests, None, None))
            return
        for look, cache in zip(calibration.looks(self._items()), caches, strict=True):
            assert cache is not None
            cache.write(look.statistics)
            yield look

    @property
    def _propagates(self) -> bool:
        return any(propagates(step.algorithm) for step, _ in self.steps)

    @property
    def _path(self) -> Path | None:
        """Where statistics are read, or left for the next run."""
        return next((step.statistics_path for step, _ in self.steps if step.statistics_path is not None), None)

    def _refinement(self, graph: Graph, planned: Iterable[PlannedConstant]) -> Refinement:
        """The steps' work on what a graph knows as the inputs of layers."""
        known = tuple(evolve(plan, inputs=layer_inputs(graph, plan.constant.name)) for plan in planned)
        steps = tuple((step, evolve(context, planned=known)) for step, context in self.steps)
        requests: dict[str, dict[StatisticsRequest, None]] = {}
        for step, context in steps:
            name = step.algorithm.name
            for request in checked_requests(name, step.algorithm.requests(graph, step.params, context, 0)):
                requests.setdefault(_tensor_at(graph, request.target, name), {})[request] = None
        found = {tensor: tuple(wanted) for tensor, wanted in requests.items()}
        return Refinement(steps, graph, known, found, self.graph)

    def _items(self) -> Iterator[Any]:
        """As many items of the dataset as the step that wants most."""
        self._check_data()
        assert self.dataset is not None
        wanted = [samples(step.algorithm, step.params, 0) for step, _ in self.steps]
        sizes = [size for size in wanted if size is not None]
        return islice(self.dataset.get_inference_data(), max(sizes) if len(sizes) == len(wanted) else None)

    def _look(self, refinement: Refinement) -> Look:
        """All statistics at once, in one pass over the data."""
        requests = tuple(request for each in refinement.requests.values() for request in each)
        return Look(tuple(refinement.requests), self._collected(requests))

    def _collected(self, requests: tuple[StatisticsRequest, ...]) -> Statistics:
        assert self.backend.aggregator is not None
        names = "+".join(step.algorithm.name for step, _ in self.steps)
        cache = StatisticsCache.of(self._path, self.graph, names, 0)
        if cache is not None and cache.file.exists():
            return cache.read(requests, None, None)
        self._check_data()
        items = Counted(self._items())
        shown = self.progress.track(items, "Collecting statistics", self._length())
        statistics = self.backend.aggregator.collect(self.model, self.graph, requests, shown)
        statistics.items = items.count
        if cache is not None:
            cache.write(statistics)
        return statistics

    def _length(self) -> int | None:
        assert self.dataset is not None
        wanted = [self.dataset.get_length(), *(samples(step.algorithm, step.params, 0) for step, _ in self.steps)]
        known = [size for size in wanted if size is not None]
        return min(known, default=None)

    def _divided(self, refinement: Refinement) -> tuple[Model, Graph] | None:
        """A model that can be cut in parts and does not change while this one does, and its graph."""
        inserter = self.backend.inserter
        if any(node.kind is OpKind.CONTROL_FLOW or node.scope for node in self.graph):
            return None  # bodies take tensors from anywhere
        if isinstance(inserter, DividingInserter):
            model = inserter.divisible(self.model)
        else:
            # not the inputs of layers alone: the layers are to be there, too
            layers = {each.node for plan in refinement.planned for each in plan.inputs}
            ends = [TargetPoint(node.name) for node in self.graph if node.name in layers]
            model = inserter.extract(self.model, (), ends)
        return None if model is None else (model, self.backend.builder.build(model))

    def _passes(self, refinement: Refinement) -> Iterator[Look]:
        """A pass over the data for each few tensors, on the model as it is by then."""
        sizes = _bytes(refinement)
        group: list[str] = []
        for tensor, size in sizes.items():
            if group and sum(sizes[each] for each in group) + size > _MOST:
                yield self._pass(refinement, group)
                group = []
            group.append(tensor)
        yield self._pass(refinement, group)

    def _pass(self, refinement: Refinement, tensors: Sequence[str]) -> Look:
        requests = tuple(request for tensor in tensors for request in refinement.requests[tensor])
        assert self.backend.aggregator is not None
        shown = self.progress.track(self._items(), "Collecting statistics", self._length())
        graph = refinement.graph
        return Look(tuple(tensors), self.backend.aggregator.collect(self.model, graph, requests, shown))

    def _calibration(self, refinement: Refinement, model: Model, folder: Path) -> Calibration:
        parts = parts_of(refinement.graph, _bytes(refinement), 0 if self._propagates else _MOST)
        checkpoints = None
        if self.folder is not None:
            checkpoints = Checkpoints(self.folder, self.backend.framework, self._digest())
        return Calibration(
            self.backend,
            self.options,
            model,
            refinement.graph,
            refinement.requests,
            parts,
            self._propagates,
            Spool(folder, LIMIT if self.folder is None else 0),
            self.progress,
            checkpoints,
        )

    def _digest(self) -> str:
        """What this model and these settings are known by."""
        origin = Origin.of(self.graph, "", 0)
        settings = [(step.algorithm.name, step.described()) for step in (self.main, *(step for step, _ in self.steps))]
        known = [origin.framework, origin.nodes, sorted(origin.constants.items()), settings]
        return hashlib.sha256(json.dumps(known, default=str).encode()).hexdigest()

    def _folder(self) -> AbstractContextManager[Path]:
        """Where tensors of samples wait."""
        if self.folder is None:
            return _temporary()
        folder = self.folder / "tensors"
        folder.mkdir(parents=True, exist_ok=True)
        return nullcontext(folder)


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nncf_") as folder:
        yield Path(folder)


def _ignore(_: Sequence[Transformation]) -> None:
    """Where no layer runs with what has become of weights."""


def _bytes(refinement: Refinement) -> dict[str, int]:
    """Bytes that each tensor takes, with its statistics."""
    channels = {each.tensor: plan.channels for plan in refinement.planned for each in plan.inputs}
    return {
        tensor: 4 * channels.get(tensor, 1) * _ROWS
        + sum(4 * channels.get(tensor, 1) ** 2 for request in requests if request.kind in _MATRICES)
        for tensor, requests in refinement.requests.items()
    }


def _tensor_at(graph: Graph, point: TargetPoint, algorithm: str) -> str:
    node = graph.node(point.node)
    ports = node.inputs if point.kind is PointKind.INPUT else node.outputs
    if not 0 <= point.port < len(ports) or not ports[point.port].tensor:
        raise ValidationError(f"Algorithm {algorithm!r} asks for statistics at {point}, where the model has no tensor.")
    return ports[point.port].tensor
