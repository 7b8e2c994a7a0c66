"""One run: a backend carries out the steps of a config, round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from attrs import evolve, field, frozen

from nncf_core.catalogue import is_importable
from nncf_core.checking import checked_edits, checked_requests, checked_rounds, named, named_edits, unnamed
from nncf_core.contracts import (
    BiasInserter,
    CheckingBuilder,
    CompressionRequest,
    Context,
    CurvatureInserter,
    LowRankInserter,
    Model,
    PlanningAlgorithm,
    PreparingInserter,
    QuantizingInserter,
    Runner,
    SelectiveInserter,
    ShrinkingInserter,
    SizingInserter,
    TrainingInserter,
    quantizes,
    samples,
    tolerates_rounding,
    traces,
)
from nncf_core.dataset import Dataset
from nncf_core.errors import (
    ParameterNotSupportedError,
    UnsupportedBackendError,
    ValidationError,
)
from nncf_core.gathering import Gathering, Round
from nncf_core.graph import Constant, Graph, Node
from nncf_core.hardware import QuantizationSetup
from nncf_core.log import nncf_logger
from nncf_core.not_finite import origin_told
from nncf_core.origins import Origin
from nncf_core.plan import Size, in_memory
from nncf_core.progress import Progress
from nncf_core.registry import Backend, Registry
from nncf_core.scopes import UNCHECKED_LISTS, IgnoredScope, ignored_after, outside
from nncf_core.sections import Step, refined_steps
from nncf_core.statistics import Statistics, StatisticsRequest, file_in
from nncf_core.training.contracts import DelegatingAlgorithm, TrainableInserter
from nncf_core.transformations import TargetPoint, Transformation

Consumer: TypeAlias = Callable[[Model, str, Graph, Iterable[Transformation]], Model]
"""Takes a model, an algorithm's name, the graph and the edits; returns the edited model."""


def rounds_of(step: Step, graph: Graph) -> int:
    """How many rounds an algorithm runs."""
    with named(step.algorithm.name, "rounds"):
        return checked_rounds(step.algorithm.name, step.algorithm.rounds(graph, step.params))


def requests_of(step: Step, graph: Graph, context: Context, index: int) -> tuple[StatisticsRequest, ...]:
    """What an algorithm asks for in a round."""
    name = step.algorithm.name
    with named(name, "requests"):
        return checked_requests(name, step.algorithm.requests(graph, step.params, context, index))


@frozen
class Run:
    """The parts that every step of a run needs.

    :param notes: what algorithms told, each once, and whether it is a warning.
    """

    backend: Backend
    options: Mapping[str, Any]
    dataset: Dataset[Any, Any] | None
    executor: Executor | None
    progress: Progress
    registry: Registry
    notes: dict[str, bool] = field(factory=dict)
    work_dir: Path | None = None
    training: bool = False
    looks_ahead: ClassVar[bool] = True

    def execute(
        self,
        steps: Sequence[Step],
        model: Model,
        consume: Consumer,
        tell: Callable[[str, Statistics], None] = lambda _name, _statistics: None,
    ) -> tuple[Model, Graph]:
        """Hand the edits of every round to ``consume``; return the last model and the first graph.

        :param tell: is told of each algorithm the statistics of all its rounds.
        """
        model, before = self._prepared(steps, model)
        graph = first = self.backend.builder.build(model)
        before = before or first
        fresh, used_data = True, False
        carried = Statistics()
        sections = refined_steps(steps)
        following = [*(step for step, _ in sections[1:]), None]
        for (step, refining), after in zip(sections, following, strict=True):
            if not fresh:
                graph, fresh = self.backend.builder.build(model), True
            statistics, known, carried = Statistics(), carried, Statistics()
            for index in range(rounds_of(step, graph)):
                if not fresh:
                    graph = self.backend.builder.build(model)
                carrying = list[Statistics]()
                context = evolve(self._context(step, model, graph, before), carry=carrying.append)
                if self.looks_ahead and after is not None:
                    context = evolve(context, ahead=self._ahead(step, after, model, graph, before))
                statistics = statistics.renewed(self._statistics(step, model, graph, context, index, known))
                used_data |= len(statistics) > 0
                name = step.algorithm.name
                with origin_told(graph, partial(self._items, step, index)):
                    with named(name, "transformations"):
                        given = step.algorithm.transformations(graph, statistics, step.params, context, index)
                    edits: Iterable[Transformation] = named_edits(name, given)
                    used_data |= bool(refining)
                    behind = self._behind(step, refining, model, graph, before, known) if refining else None
                    with nullcontext(edits) if behind is None else behind(edits, statistics, context) as edits:
                        model = consume(model, name, graph, checked_edits(name, edits, graph))
                fresh, carried = False, carrying[-1] if carrying else Statistics()
            tell(step.algorithm.name, statistics)
        if self.dataset is not None and not used_data and not traces(self.backend.builder):
            nncf_logger.warning("The dataset was not used: with these settings no algorithm needs data.")
        return model, first

    def graph(self, steps: Sequence[Step], model: Model) -> Graph:
        """The graph of a model before all edits, prepared for those that need it; the model is changed."""
        return self.backend.builder.build(self._prepared(steps, model)[0])

    def collect(self, steps: Sequence[Step], model: Model, algorithm: str | None) -> Statistics:
        """The statistics of the first round that asks for some; of a certain algorithm, where it is named."""
        model, before = self._prepared(steps, model)
        for step in steps:
            if isinstance(step.algorithm, DelegatingAlgorithm):
                continue
            graph = self.backend.builder.build(model)
            if algorithm in (None, step.algorithm.name):
                anew = evolve(step, statistics_path=None)
                statistics = self._statistics(anew, model, graph, self._context(step, model, graph, before or graph), 0)
                if len(statistics):
                    statistics.origin = Origin.of(graph, step.algorithm.name, 0)
                    return statistics
            model, _ = self.execute([step], model, self._apply)
        raise ValidationError(
            f"{algorithm or 'No algorithm of the config'} asks for no statistics in its first round: "
            "give the section of one that needs data."
        )

    def _behind(
        self, step: Step, refining: Sequence[Step], model: Model, graph: Graph, before: Graph, known: Statistics
    ) -> Callable[[Iterable[Transformation], Statistics, Context], AbstractContextManager[Iterable[Transformation]]]:
        """What the steps behind a step make of its edits, given its statistics and its context.

        :param known: statistics that the step before it knew.
        """
        from nncf_core.refining_steps import RefiningRun  # most runs refine nothing

        algorithm = step.algorithm
        assert isinstance(algorithm, PlanningAlgorithm)
        steps = tuple((each, self._context(each, model, graph, before)) for each in refining)
        run = RefiningRun(self._gathering, model, graph, step, steps, known, self.work_dir)

        def refined(
            edits: Iterable[Transformation], statistics: Statistics, context: Context
        ) -> AbstractContextManager[Iterable[Transformation]]:
            with named(step.algorithm.name, "planned"):
                planned = algorithm.planned(graph, statistics, step.params, context)
            return run.edits(planned, edits)

        return refined

    def _apply(self, model: Model, name: str, graph: Graph, edits: Iterable[Transformation]) -> Model:
        return self.backend.inserter.apply(model, graph, edits, self.options)

    def _prepared(self, steps: Sequence[Step], model: Model) -> tuple[Model, Graph | None]:
        """A model that quantizers can be inserted into, and the graph as it was, where ignored scopes speak of it."""
        if not any(quantizes(step.algorithm) for step in steps):
            return model, None
        scoped = any(step.targets or evolve(step.ignored, validate=True) != IgnoredScope() for step in steps)
        before = self.backend.builder.build(model) if scoped else None
        return prepared(self.backend, model, self.options), before

    def _ignored(self, step: Step, graph: Graph, before: Graph) -> frozenset[str]:
        if step.lists_ignored:
            return ignored_after(graph, step.ignored, before, 'The config\'s "ignored_scopes"', UNCHECKED_LISTS)
        return ignored_after(graph, step.ignored, before)

    def _context(self, step: Step, model: Model, graph: Graph, before: Graph) -> Context:
        return Context(
            self.executor,
            self.progress,
            self._ignored(step, graph, before) | outside(graph, step.targets, before),
            self._refusal(graph),
            self._setup,
            1 if self.dataset is None else self.dataset.get_batch_size() or 1,
            partial(self._takes_multiplication, model, graph),
            partial(self._takes_bias, model, graph),
            partial(self._part, model),
            self._note,
            has_data=self.dataset is not None or _has_statistics(step),
            takes_low_rank=partial(self._takes_low_rank, model, graph),
            **self._shrinking(model, graph),
            training=self.training,
            mask_refusal=partial(self._mask_refusal, graph),
            hessian_traces=partial(self._hessian_traces, model),
            warn=self._warn,
        )

    def _shrinking(self, model: Model, graph: Graph) -> dict[str, Any]:
        inserter = self.backend.inserter
        if not isinstance(inserter, ShrinkingInserter):
            return {}
        return {"shaped": partial(inserter.shaped, model, graph), "trial": partial(inserter.trial, model, graph)}

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes[text] = False
            nncf_logger.info("%s", text)

    def _warn(self, text: str) -> None:
        if text not in self.notes:
            self.notes[text] = True
            nncf_logger.warning("%s", text)

    def warn_of_nothing(self, steps: Sequence[Step]) -> None:
        """Say that no step has changed anything, unless a warning tells why."""
        if not any(self.notes.values()):
            names = ", ".join(step.algorithm.name for step in steps)
            self._warn(f"Nothing is changed: no edit comes of {names} with this model and these settings.")

    def open(self, model: Model | Path) -> Model:
        """The working model; the dataset's first item is an example of its input where the backend traces."""
        builder, options = self.backend.builder, self.options
        if self.dataset is not None and traces(builder) and "example_input" not in options:
            for item in islice(self.dataset.get_inference_data(), 1):
                if isinstance(builder, CheckingBuilder):
                    builder.check_item(item, 0)
                options = {**options, "example_input": item}
        return builder.open(model, options)

    def size(self, graph: Graph) -> Size:
        """What compressed constants of a graph will take."""
        inserter = self.backend.inserter
        if not isinstance(inserter, SizingInserter):
            return in_memory
        return lambda constant, tensor: inserter.stored_bytes(graph, constant, tensor, self.options)

    def _setup(self, device: str) -> QuantizationSetup:
        if isinstance(self.backend.inserter, QuantizingInserter):
            return self.backend.inserter.quantization_setup(device)
        raise UnsupportedBackendError(
            f"The {self.backend.builder.title} backend cannot quantize activations; compress the weights alone."
        )

    def _takes_multiplication(self, model: Model, graph: Graph, point: TargetPoint) -> bool:
        inserter = self.backend.inserter
        return not isinstance(inserter, SelectiveInserter) or inserter.takes_multiplication(model, graph, point)

    def _takes_bias(self, model: Model, graph: Graph, node: Node) -> bool:
        inserter = self.backend.inserter
        return isinstance(inserter, BiasInserter) and inserter.takes_bias(model, graph, node)

    def _takes_low_rank(self, model: Model, graph: Graph, constant: str) -> bool:
        inserter = self.backend.inserter
        return isinstance(inserter, LowRankInserter) and inserter.takes_low_rank(model, graph, constant)

    def _hessian_traces(
        self, model: Model, names: Sequence[str], samples: int, vectors: int, tolerance: float
    ) -> Mapping[str, float]:
        inserter = self.backend.inserter
        if isinstance(inserter, CurvatureInserter):
            with unnamed():  # the loss and the data are the user's
                return inserter.hessian_traces(model, names, samples, vectors, tolerance, self.options)
        raise ParameterNotSupportedError(
            f"Traces of the loss's Hessian cannot be had of {self.backend.builder.title} models; give those of the "
            "PyTorch model (traces_per_layer_path), or bits by names."
        )

    def _mask_refusal(self, graph: Graph, constant: str) -> str | None:
        inserter = self.backend.inserter
        if isinstance(inserter, TrainableInserter):
            return inserter.mask_refusal(graph, constant)
        return f"{self.backend.builder.title} models are not trained"

    def _part(self, model: Model, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> Runner:
        run = self.backend.inserter.runner(self.backend.inserter.extract(model, inputs, outputs))
        return run if traces(self.backend.builder) else partial(_run_fed, run, frozenset(map(str, inputs)))

    def _statistics(
        self,
        step: Step,
        model: Model,
        graph: Graph,
        context: Context,
        index: int,
        carried: Statistics | None = None,
    ) -> Statistics:
        """What a round asks for.

        :param carried: what the step before it knows of its model.
        """
        requests = requests_of(step, graph, context, index)
        if not requests:
            return Statistics()
        useful = carried is not None and bool(carried.items) and quantizes(step.algorithm) and not index
        if useful and carried is not None and all(request in carried for request in requests):
            seen = carried.of(frozenset(requests))
            return self._gathering.rest(self._asking(step, index), model, graph, requests, seen)
        return self._collected(step, requests, model, graph, context, index)

    def _ahead(
        self, step: Step, after: Step, model: Model, graph: Graph, before: Graph
    ) -> tuple[StatisticsRequest, ...]:
        """What the next step would ask for now, where the first items that it sees are those that this one sees."""
        if not getattr(step.algorithm, "looks_ahead", False) or not quantizes(after.algorithm):
            return ()
        # files hold what a step alone asks for
        if self.dataset is None or step.statistics_path is not None or after.statistics_path is not None:
            return ()
        if rounds_of(step, graph) > 1 or rounds_of(after, graph) > 1:
            return ()
        now, then = (self._asking(each, 0).samples for each in (step, after))
        if now is None or (then is not None and then < now):
            return ()
        context = evolve(self._context(after, model, graph, before), note=lambda _text: None, warn=lambda _text: None)
        return requests_of(after, graph, context, 0)

    def _collected(
        self,
        step: Step,
        requests: tuple[StatisticsRequest, ...],
        model: Model,
        graph: Graph,
        context: Context,
        index: int,
    ) -> Statistics:
        """Read what an earlier run left, or run the model on the dataset."""
        return self._gathering.statistics(self._asking(step, index), model, graph, requests)

    def _items(self, step: Step, index: int) -> Iterable[Any]:
        """What an algorithm's statistics of a round are of."""
        return () if self.dataset is None else self._gathering.items(self._asking(step, index))

    def _asking(self, step: Step, index: int) -> Round:
        size = samples(step.algorithm, step.params, index)
        if size is not None and self.dataset is not None and getattr(step.params, "batches_count", False):
            size = -(-size // (self.dataset.get_batch_size() or 1))
        return Round(
            step.algorithm.name, index, size, step.statistics_path, tolerates_rounding(step.algorithm), step.asked_by
        )

    @property
    def _gathering(self) -> Gathering:
        return Gathering(self.backend, self.options, self.dataset, self.progress, self._note, self.training)

    def _refusal(self, graph: Graph) -> Callable[[Constant, CompressionRequest], str | None]:
        def ask(constant: Constant, request: CompressionRequest) -> str | None:
            reason = _refused(self.backend, graph, constant, request, self.options)
            if reason is None:
                return None
            able = [
                other.builder.title
                for name, other in self.registry.backends.items()
                if name != self.backend.framework and is_importable(name) and _can(other, graph, constant, request)
            ]
            return f"{reason} Installed backends that can: {', '.join(able)}." if able else reason

        return ask


def _refused(
    backend: Backend, graph: Graph, constant: Constant, request: CompressionRequest, options: Mapping[str, Any]
) -> str | None:
    """Why a backend cannot compress a constant, or not train it then."""
    inserter = backend.inserter
    reason = inserter.refusal(graph, constant, request, options)
    if reason is not None or request.training is None:
        return reason
    if isinstance(inserter, TrainingInserter):
        return inserter.training_refusal(graph, constant, request, options)
    return f"{backend.builder.title} models are not trained; compression_format must be dequantize."


def _has_statistics(step: Step) -> bool:
    """Whether an earlier run left statistics of the step's first round."""
    return step.statistics_path is not None and file_in(step.statistics_path, step.algorithm.name, 0).exists()


def _run_fed(run: Runner, names: frozenset[str], feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Run a part with what lies at its own points."""
    return run({name: array for name, array in feed.items() if name in names})


def prepared(backend: Backend, model: Model, options: Mapping[str, Any]) -> Model:
    """A working model that quantizers can be inserted into."""
    inserter = backend.inserter
    return inserter.prepare(model, options) if isinstance(inserter, PreparingInserter) else model


def _can(backend: Backend, graph: Graph, constant: Constant, request: CompressionRequest) -> bool:
    """Whether another backend could store a constant; the graph is not its own, so that it may not know."""
    try:
        return _refused(backend, graph, constant, request, {}) is None
    except Exception:
        return False
