"""The one pipeline: a run is assembled from an NNCFConfig.

``model → graph → requests → statistics → transformations (the plan) → model``, once for each round of each
algorithm of the config's ``compression`` section, in the order given there.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from attrs import evolve, frozen

from nncf_core.catalogue import is_importable
from nncf_core.checking import checked_edits, checked_requests, checked_rounds
from nncf_core.config.nncf_config import NNCFConfig
from nncf_core.contracts import (
    BiasInserter,
    CompressionRequest,
    Context,
    GraphBuilder,
    Model,
    PreparingInserter,
    QuantizingInserter,
    Recorder,
    Runner,
    SelectiveInserter,
    SizingInserter,
    StreamingBuilder,
    quantizes,
    samples,
    traces,
)
from nncf_core.dataset import Dataset
from nncf_core.errors import (
    InvalidPathError,
    UnsupportedBackendError,
    UnsupportedDatasetError,
    ValidationError,
)
from nncf_core.files import aside
from nncf_core.graph import Constant, Graph, Node
from nncf_core.hardware import QuantizationSetup
from nncf_core.log import nncf_logger
from nncf_core.numerics.work import available_cores
from nncf_core.origins import Origin
from nncf_core.plan import Plan, PlanEntry, Size, describe, in_memory
from nncf_core.progress import Progress, SilentProgress
from nncf_core.registry import Backend, Registry, registry
from nncf_core.report import Report
from nncf_core.scopes import IgnoredScope, ignored_after
from nncf_core.sections import Step, backend_options, steps_of
from nncf_core.statistics import Statistics
from nncf_core.statistics_cache import Counted, StatisticsCache
from nncf_core.transformations import TargetPoint, Transformation

Consumer: TypeAlias = Callable[[Model, str, Graph, Iterable[Transformation]], Model]
"""Takes a model, an algorithm's name, the graph and the edits; returns the edited model."""

_TRAINING_KEYS = ("accuracy_aware_training", "compression_lr_multiplier", "input_info", "log_dir", "target_device")


@frozen
class Result:
    """What a run gives: the model (of the kind that was given), the plan, and the report."""

    model: Model
    plan: Plan
    report: Report


def rounds_of(step: Step, graph: Graph) -> int:
    """How many rounds an algorithm runs."""
    return checked_rounds(step.algorithm.name, step.algorithm.rounds(graph, step.params))


@frozen
class _Run:
    """The parts that every step of a run needs."""

    backend: Backend
    options: Mapping[str, Any]
    dataset: Dataset[Any, Any] | None
    executor: Executor | None
    progress: Progress
    registry: Registry

    def execute(self, steps: Sequence[Step], model: Model, consume: Consumer) -> tuple[Model, Graph]:
        """Hand the edits of every round to ``consume``; return the last model and the first graph."""
        model, before = self._prepared(steps, model)
        graph = first = self.backend.builder.build(model)
        before = before or first
        fresh, used_data = True, False
        for step in steps:
            if not fresh:
                graph, fresh = self.backend.builder.build(model), True
            statistics = Statistics()
            for index in range(rounds_of(step, graph)):
                if not fresh:
                    graph = self.backend.builder.build(model)
                context = self._context(step, model, graph, before)
                statistics = statistics.renewed(self._statistics(step, model, graph, context, index))
                used_data |= len(statistics) > 0
                name = step.algorithm.name
                edits = step.algorithm.transformations(graph, statistics, step.params, context, index)
                model = consume(model, name, graph, checked_edits(name, edits, graph))
                fresh = False
        if self.dataset is not None and not used_data and not traces(self.backend.builder):
            nncf_logger.warning("The dataset was not used: with these settings no algorithm needs data.")
        return model, first

    def collect(self, steps: Sequence[Step], model: Model, algorithm: str | None) -> Statistics:
        """The statistics of the first round that asks for some; of a certain algorithm, where it is named."""
        model, before = self._prepared(steps, model)
        for step in steps:
            graph = self.backend.builder.build(model)
            if algorithm in (None, step.algorithm.name):
                anew = evolve(step, statistics_path=None)
                statistics = self._statistics(anew, model, graph, self._context(step, model, graph, before or graph), 0)
                if len(statistics):
                    statistics.origin = Origin.of(graph, step.algorithm.name, 0)
                    return statistics
            model, _ = self.execute([step], model, self._apply)
        raise ValidationError(f"{algorithm or 'No algorithm of the config'} asks for no statistics in its first round.")

    def _apply(self, model: Model, name: str, graph: Graph, edits: Iterable[Transformation]) -> Model:
        return self.backend.inserter.apply(model, graph, edits, self.options)

    def _prepared(self, steps: Sequence[Step], model: Model) -> tuple[Model, Graph | None]:
        """A model that quantizers can be inserted into, and the graph as it was, where ignored scopes speak of it."""
        if not any(quantizes(step.algorithm) for step in steps):
            return model, None
        scoped = any(evolve(step.ignored, validate=True) != IgnoredScope() for step in steps)
        before = self.backend.builder.build(model) if scoped else None
        return prepared(self.backend, model, self.options), before

    def _context(self, step: Step, model: Model, graph: Graph, before: Graph) -> Context:
        return Context(
            self.executor,
            self.progress,
            ignored_after(graph, step.ignored, before),
            self._refusal(graph),
            self._setup,
            1 if self.dataset is None else self.dataset.get_batch_size() or 1,
            partial(self._takes_multiplication, model, graph),
            partial(self._takes_bias, model, graph),
            partial(self._part, model),
        )

    def open(self, model: Model | Path) -> Model:
        """The working model; the dataset's first item is an example of its input where the backend traces."""
        builder, options = self.backend.builder, self.options
        if self.dataset is not None and traces(builder) and "example_input" not in options:
            for item in islice(self.dataset.get_inference_data(), 1):
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
        raise UnsupportedBackendError(f"The {self.backend.builder.title} backend cannot quantize activations.")

    def _takes_multiplication(self, model: Model, graph: Graph, point: TargetPoint) -> bool:
        inserter = self.backend.inserter
        return not isinstance(inserter, SelectiveInserter) or inserter.takes_multiplication(model, graph, point)

    def _takes_bias(self, model: Model, graph: Graph, node: Node) -> bool:
        inserter = self.backend.inserter
        return isinstance(inserter, BiasInserter) and inserter.takes_bias(model, graph, node)

    def _part(self, model: Model, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> Runner:
        run = self.backend.inserter.runner(self.backend.inserter.extract(model, inputs, outputs))
        return run if traces(self.backend.builder) else partial(_run_fed, run, frozenset(map(str, inputs)))

    def _statistics(self, step: Step, model: Model, graph: Graph, context: Context, index: int) -> Statistics:
        name = step.algorithm.name
        requests = checked_requests(name, step.algorithm.requests(graph, step.params, context, index))
        if not requests:
            return Statistics()
        size = samples(step.algorithm, step.params, index)
        length = None if self.dataset is None else self.dataset.get_length()
        total = min((n for n in (size, length) if n is not None), default=None)
        cache = StatisticsCache.of(step.statistics_path, graph, name, index)
        if cache is not None and cache.file.exists():
            return cache.read(requests, size, total if self.dataset is not None else None)
        if self.dataset is None:
            raise UnsupportedDatasetError(
                f"Algorithm {name!r} needs calibration data with these settings; pass a dataset."
            )
        if self.backend.aggregator is None:
            raise UnsupportedBackendError(
                f"Algorithm {name!r} needs statistics of activations with these settings, and no installed "
                f"plugin collects them for {self.backend.builder.title} models."
            )
        items = Counted(islice(self.dataset.get_inference_data(), size))
        shown = self.progress.track(items, "Collecting statistics", total)
        statistics = self.backend.aggregator.collect(model, graph, requests, shown)
        statistics.items = items.count
        if cache is not None:
            cache.write(statistics)
        return statistics

    def _refusal(self, graph: Graph) -> Callable[[Constant, CompressionRequest], str | None]:
        def ask(constant: Constant, request: CompressionRequest) -> str | None:
            reason = self.backend.inserter.refusal(graph, constant, request, self.options)
            if reason is None:
                return None
            able = [
                other.builder.title
                for name, other in self.registry.backends.items()
                if name != self.backend.framework and is_importable(name) and _can(other, graph, constant, request)
            ]
            return f"{reason} Installed backends that can: {', '.join(able)}." if able else reason

        return ask


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
        return backend.inserter.refusal(graph, constant, request, {}) is None
    except Exception:
        return False


def run(
    config: Mapping[str, Any],
    model: Model | Path,
    *,
    dataset: Dataset[Any, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    output: Path | None = None,
    statistics_path: Path | str | None = None,
) -> Result:
    """Compress a model as a config says.

    :param config: an :class:`~nncf_core.config.nncf_config.NNCFConfig`, or a dict that is one.
    :param model: a framework's model, or the path of a model file. It is not changed.
    :param dataset: calibration data, for algorithms that need it.
    :param executor: independent work is mapped over it; by default, with the calling thread, one thread for each core.
    :param progress: where to report progress; by default nowhere.
    :param output: where to save the result. The saved model is then not loaded into memory as a whole, and
        ``Result.model`` is ``None``.
    :param statistics_path: the config's key of this name: folder of the statistics of activations. They are read where
        they are there, and written where not.
    :raises ValidationError: when the config is not valid.
    :raises UnsupportedBackendError: when no installed backend takes the model.
    :raises StatisticsCacheError: when statistics that are there are of something else.
    """
    config = config if statistics_path is None else {**config, "statistics_path": str(statistics_path)}
    with _prepared(config, model, dataset, executor, progress) as (steps, this):
        builder = this.backend.builder
        if output is not None and output.suffix.lower() not in builder.suffixes:
            raise InvalidPathError(
                f"Cannot write {output}: the name of {builder.title} files ends in {' or '.join(builder.suffixes)}."
            )
        working = this.open(model)
        entries: list[PlanEntry] = []

        def consume(model: Model, name: str, graph: Graph, edits: Iterable[Transformation]) -> Model:
            described = describe(name, edits, graph, entries, this.size(graph))
            return this.backend.inserter.apply(model, graph, described, this.options)

        with _streaming(builder, working, output):
            working, first = this.execute(steps, working, consume)
            _record(builder, working, steps, entries)
            if output is not None:
                builder.save(working, output)
        plan = Plan(this.backend.framework, tuple(entries))
        return Result(None if output is not None else builder.export(working, model), plan, Report.of(first, plan))


def _streaming(builder: GraphBuilder, model: Model, output: Path | None) -> AbstractContextManager[None]:
    if output is None:
        return nullcontext()
    if isinstance(builder, StreamingBuilder):
        return builder.streaming(model, output)
    # a folder that cannot be written to is better known before the work than after it
    with aside(output):
        return nullcontext()


def _record(builder: GraphBuilder, model: Model, steps: Iterable[Step], entries: Sequence[PlanEntry]) -> None:
    if isinstance(builder, Recorder):
        changed = {entry.algorithm for entry in entries}
        for step in steps:
            if step.algorithm.name in changed:
                builder.record(model, step.algorithm.name, step.described())


def make_plan(
    config: Mapping[str, Any],
    model: Model | Path,
    *,
    dataset: Dataset[Any, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    keep_arrays: bool = True,
) -> tuple[Plan, Report]:
    """What :func:`run` would do, without giving a model. Arguments and errors are those of :func:`run`.

    :param keep_arrays: ``False`` keeps only the light entries, and memory small.
    """
    with _prepared(config, model, dataset, executor, progress) as (steps, this):
        working = this.open(model)
        entries: list[PlanEntry] = []
        kept: list[tuple[str, tuple[Transformation, ...]]] = []

        def consume(model: Model, name: str, graph: Graph, edits: Iterable[Transformation]) -> Model:
            described = describe(name, edits, graph, entries, this.size(graph))
            if not keep_arrays and len(steps) == 1 and rounds_of(steps[0], graph) == 1:
                deque(described, maxlen=0)
                return model
            # a later round or algorithm sees the model after this one
            transformations = tuple(described)
            if keep_arrays:
                kept.append((name, transformations))
            return this.backend.inserter.apply(model, graph, transformations, this.options)

        _, first = this.execute(steps, working, consume)
        plan = Plan(this.backend.framework, tuple(entries), tuple(kept))
        return plan, Report.of(first, plan)


def collect_statistics(
    config: Mapping[str, Any],
    model: Model | Path,
    dataset: Dataset[Any, Any],
    *,
    algorithm: str | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """The statistics that :func:`run` would collect first. Those of parts of a dataset can be merged, and saved.

    :param algorithm: the algorithm whose first round they are for; by default the first that asks for some. Those
        before it in the config run, on the same data or on statistics of their own where ``statistics_path`` has them.
    :raises ValidationError: when nothing asks for statistics; otherwise errors are those of :func:`run`.
    """
    with _prepared(config, model, dataset, executor, progress) as (steps, this):
        if algorithm is not None and algorithm not in (step.algorithm.name for step in steps):
            raise ValidationError(f"The config has no section for the algorithm {algorithm!r}.")
        return this.collect(steps, this.open(model), algorithm)


def apply_plan(plan: Plan, model: Model | Path, options: Mapping[str, Any] | None = None) -> Model:
    """Carry out a plan that holds its arrays on the model that it was made for.

    :raises ValidationError: when the plan was made for another backend, or names what the model lacks.
    """
    backend = registry().backend_for(model)
    if backend.framework != plan.framework:
        raise ValidationError(f"The plan was made for {plan.framework} models, this is a {backend.framework} one.")
    working = backend.builder.open(model, options or {})
    if any(quantizes(registry().algorithms.get(name)) for name, _ in plan.steps):
        working = prepared(backend, working, options or {})
    for name, transformations in plan.steps:
        graph = backend.builder.build(working)
        for transformation in transformations:
            _check_target(transformation, graph, name)
        working = backend.inserter.apply(working, graph, transformations, options or {})
    return backend.builder.export(working, model)


def _check_target(transformation: Transformation, graph: Graph, algorithm: str) -> None:
    constant = getattr(transformation, "constant", None)
    if constant is not None and constant not in graph.constants:
        raise ValidationError(
            f"The plan of {algorithm} changes the constant {constant!r}, which the model does not have: "
            "it was made for another model."
        )


@contextmanager
def _prepared(
    config: Mapping[str, Any],
    model: Model | Path,
    dataset: Dataset[Any, Any] | None,
    executor: Executor | None,
    progress: Progress | None,
) -> Iterator[tuple[tuple[Step, ...], _Run]]:
    known = registry()
    # validates; a NNCFConfig may have been filled by hand since it was made
    checked = NNCFConfig.from_dict(dict(config))
    steps = steps_of(checked, known)
    idle = [key for key in _TRAINING_KEYS if key in checked]
    if idle:
        nncf_logger.warning("Keys of the config that have no effect in this run: %s.", ", ".join(idle))
    options = backend_options(checked)
    # the calling thread works, too
    own = ThreadPoolExecutor(max(available_cores() - 1, 1)) if executor is None else None
    thresholds = gc.get_threshold()
    # a graph is hundreds of thousands of objects that live to the end of the run: looking for garbage among them at
    # Python's usual pace takes a fifth of the time
    gc.set_threshold(max(thresholds[0], 50_000), *thresholds[1:])
    try:
        yield (
            steps,
            _Run(
                known.backend_for(model),
                options,
                dataset,
                executor or own,
                progress or SilentProgress(),
                known,
            ),
        )
    finally:
        gc.set_threshold(*thresholds)
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)
