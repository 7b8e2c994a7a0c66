"""Sections that refine what the section before them does to weights: their part of a run."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

from attrs import evolve, field, frozen

from nncf_core.calibration import Calibration, Look
from nncf_core.checkpoints import Checkpoints
from nncf_core.contracts import Context, Model, SamplingInserter, propagates, samples
from nncf_core.cuts import Part, grouped, parts_of
from nncf_core.gathering import MATRICES, MOST, Gathering, Round, bytes_of, divided, requests_by_tensor
from nncf_core.graph import Graph
from nncf_core.origins import Origin
from nncf_core.refinement import Refinement
from nncf_core.refining import PlannedConstant, layer_inputs
from nncf_core.rounds import requests_of
from nncf_core.sections import Step
from nncf_core.spool import LIMIT, Spool
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.statistics_cache import StatisticsCache
from nncf_core.transformations import Transformation


@frozen
class RefiningRun:
    """What refining steps need of a run.

    :param gathering: what statistics come from.
    :param model: the working model.
    :param graph: its graph.
    :param main: the step before them.
    :param steps: the steps, each with its context.
    :param known: statistics that need not be collected.
    :param folder: where an interrupted calibration goes on; ``None``: it does not.
    """

    gathering: Gathering
    model: Model
    graph: Graph
    main: Step
    steps: tuple[tuple[Step, Context], ...]
    known: Statistics = field(factory=Statistics)
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
        if not requests or (self.gathering.dataset is None and (self._path is None or self._propagates)):
            if self._needing:
                self.gathering.check(self._needing[0])
            yield refinement.edits(edits, (), _ignore)
            return
        light = not self._propagates and all(request.kind not in MATRICES for request in requests)
        if light and self._path is None and self._knows(requests):
            yield refinement.edits(edits, [Look(tuple(refinement.requests), self.known)], _ignore)
            return
        if light and (self._path is not None or not isinstance(self.gathering.backend.inserter, SamplingInserter)):
            yield refinement.edits(edits, [self._look(refinement)], _ignore)
            return
        parts = divided(self.gathering.backend, self.model, self.graph, refinement.requests)
        if parts is None:
            yield refinement.edits(edits, self._passes(refinement), _ignore)
            return
        model, graph = parts
        refinement = self._refinement(graph, planned)
        with self._folder() as folder:
            calibration = self._calibration(refinement, model, folder)
            with closing(self._looks(calibration)) as looks:
                yield refinement.edits(edits, looks, calibration.give)
            calibration.spool.clear()

    def _knows(self, requests: Iterable[StatisticsRequest]) -> bool:
        """Whether statistics are known, of as many samples as are wanted."""
        wanted = self.gathering.length(self._round)
        known = {*self.known, *self.known.unseen}
        return wanted is not None and self.known.items == wanted and known.issuperset(requests)

    @property
    def _needing(self) -> list[str]:
        """Names of the algorithms that are of no use without data."""
        return [step.algorithm.name for step, _ in self.steps if getattr(step.algorithm, "needs_data", False)]

    @property
    def _round(self) -> Round:
        """All steps as one that asks for statistics: as many samples as the one that wants most."""
        sizes = [samples(step.algorithm, step.params, 0) for step, _ in self.steps]
        known = [size for size in sizes if size is not None]
        most = max(known) if len(known) == len(sizes) else None
        name = "+".join(step.algorithm.name for step, _ in self.steps)
        return Round(name, 0, most, self._path, rough=True)

    def _looks(self, calibration: Calibration) -> Generator[Look]:
        """Statistics part by part; those that do not depend on compressed weights are read and left in files."""
        asking = self._round
        if asking.path is None or self._propagates:
            yield from self._collected(calibration)
            return
        numbers, folder = range(len(calibration.parts)), asking.path.with_suffix("")
        caches = [StatisticsCache.of(folder, self.graph, asking.name, number) for number in numbers]
        if all(cache is not None and cache.file.exists() for cache in caches):
            for part, cache in zip(calibration.parts, caches, strict=True):
                assert cache is not None
                requests = _requests_of(part, calibration)
                yield Look(part.tensors, cache.read(requests, asking.samples, self.gathering.length(asking)))
            return
        with closing(self._collected(calibration)) as looks:
            for look, cache in zip(looks, caches, strict=True):
                assert cache is not None
                cache.write(look.statistics)
                yield look

    def _collected(self, calibration: Calibration) -> Generator[Look]:
        """Statistics part by part, as far as items reach what they are of."""
        with closing(calibration.looks(self.gathering.items(self._round))) as looks:
            for part, look in zip(calibration.parts, looks, strict=True):
                if look.edits is None:
                    found = self.gathering.reached(look.statistics, _requests_of(part, calibration))
                    look = evolve(look, statistics=found)
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
            asked = requests_of(step, graph, context, 0)
            for tensor, wanted in requests_by_tensor(graph, asked, step.algorithm.name).items():
                requests.setdefault(tensor, {}).update(dict.fromkeys(wanted))
        found = {tensor: tuple(wanted) for tensor, wanted in requests.items()}
        return Refinement(steps, graph, known, found, self.graph)

    def _look(self, refinement: Refinement) -> Look:
        """All statistics at once."""
        requests = tuple(request for each in refinement.requests.values() for request in each)
        statistics = self.gathering.statistics(self._round, self.model, self.graph, requests)
        return Look(tuple(refinement.requests), statistics)

    def _passes(self, refinement: Refinement) -> Iterator[Look]:
        """A pass over the data for each few tensors, on the model as it is by then."""
        for group in grouped(refinement.requests, bytes_of(refinement.graph, refinement.requests), MOST):
            requests = tuple(request for tensor in group for request in refinement.requests[tensor])
            statistics = self.gathering.in_one_pass(self._round, self.model, refinement.graph, requests)
            yield Look(tuple(group), statistics)

    def _calibration(self, refinement: Refinement, model: Model, folder: Path) -> Calibration:
        graph, backend = refinement.graph, self.gathering.backend
        parts = parts_of(graph, bytes_of(graph, refinement.requests), 0 if self._propagates else MOST)
        checkpoints = None
        if self.folder is not None:
            checkpoints = Checkpoints(self.folder, backend.framework, self._digest())
        return Calibration(
            backend,
            self.gathering.options,
            model,
            graph,
            refinement.requests,
            parts,
            self._propagates,
            Spool(folder, LIMIT if self.folder is None else 0),
            self.gathering.progress,
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


def _requests_of(part: Part, calibration: Calibration) -> list[StatisticsRequest]:
    return [request for tensor in part.tensors for request in calibration.requests[tensor]]
