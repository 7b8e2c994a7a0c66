"""The one pipeline: a run is assembled from an NNCFConfig.

``model → graph → requests → statistics → transformations (the plan) → model``, once for each round of each
algorithm of the config's ``compression`` section, in the order given there.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from attrs import fields_dict, frozen

from nncf_core.concluding import concluded
from nncf_core.config.nncf_config import NNCFConfig
from nncf_core.config.schema import KNOWN_KEYS
from nncf_core.contracts import (
    GraphBuilder,
    Model,
    StreamingBuilder,
    quantizes,
)
from nncf_core.controlling import Validation
from nncf_core.dataset import Dataset
from nncf_core.errors import (
    InvalidPathError,
    ValidationError,
)
from nncf_core.files import aside
from nncf_core.graph import Graph
from nncf_core.log import nncf_logger
from nncf_core.numerics.blas import one_thread
from nncf_core.numerics.work import available_cores
from nncf_core.observing import Observation
from nncf_core.plan import Plan, PlanEntry, describe
from nncf_core.process import finishing
from nncf_core.progress import Progress, SilentProgress
from nncf_core.registry import registry
from nncf_core.report import Report
from nncf_core.rounds import Consumer, Run, prepared, rounds_of
from nncf_core.sections import Step, backend_options, controlled_steps, steps_of
from nncf_core.statistics import Statistics
from nncf_core.training.refusals import check_untrained
from nncf_core.transformations import Transformation

_TRAINING_KEYS = ("accuracy_aware_training", "compression_lr_multiplier", "input_info", "log_dir", "target_device")


@frozen
class Result:
    """What a run gives: the model (of the kind that was given), the plan, and the report."""

    model: Model
    plan: Plan
    report: Report


def run(
    config: Mapping[str, Any],
    model: Model | Path,
    *,
    dataset: Dataset[Any, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    output: Path | None = None,
    statistics_path: Path | str | None = None,
    work_dir: Path | str | None = None,
    validation: Validation | None = None,
    observation: Observation | None = None,
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
    :param work_dir: folder where a calibration that runs the model part by part leaves what it has finished. Started
        again with the same model, config and data, an interrupted one goes on from there.
    :param validation: the metric, for algorithms that decide which edits are kept.
    :param observation: takes notes of the run.
    :raises ValidationError: when the config is not valid, or the work folder holds another calibration.
    :raises UnsupportedBackendError: when no installed backend takes the model.
    :raises StatisticsCacheError: when statistics that are there are of something else.
    """
    config = config if statistics_path is None else {**config, "statistics_path": str(statistics_path)}
    with assembled(config, model, dataset, executor, progress, work_dir) as (steps, this), ExitStack() as held:
        builder = this.backend.builder
        if output is not None and output.suffix.lower() not in builder.suffixes:
            raise InvalidPathError(
                f"Cannot write {output}: the name of {builder.title} files ends in {' or '.join(builder.suffixes)}."
            )
        noted = observation or Observation(measures=False)
        noted.options, noted.prepared = this.options, any(quantizes(step.algorithm) for step in steps)
        working = this.open(model)
        noted.lap("opening")
        entries: list[PlanEntry] = []

        def consume(model: Model, name: str, graph: Graph, edits: Iterable[Transformation]) -> Model:
            noted.lap(f"statistics for {name}")
            described = describe(name, noted.passing(edits, graph), graph, entries, this.size(graph))
            edited = this.backend.inserter.apply(model, graph, described, this.options)
            noted.lap(f"edits of {name}")
            return edited

        with _streaming(builder, working, output):
            working, first, done = _executed(this, steps, model, working, consume, validation, held)
            working = concluded(this, done, working, {entry.algorithm for entry in entries})
            if output is not None:
                builder.save(working, output)
        noted.lap("saving")
        if not entries:
            this.warn_of_nothing(steps)
        plan = Plan(this.backend.framework, tuple(entries))
        return Result(
            None if output is not None else builder.export(working, model), plan, Report.of(first, plan, this.notes)
        )


def _executed(
    this: Run,
    steps: tuple[Step, ...],
    source: Model | Path,
    working: Model,
    consume: Consumer,
    validation: Validation | None,
    held: ExitStack | None = None,
) -> tuple[Model, Graph, tuple[Step, ...]]:
    """Hand the edits that are kept to ``consume``; gives the last model, the first graph, and the steps that edited.

    :param held: until its end, what a long search has decided on is not lost to Ctrl-C.
    """
    editing, control = controlled_steps(steps)
    if control is None:
        return *this.execute(editing, working, consume), editing
    from nncf_core.trials import decided  # most runs keep all edits

    trial = decided(this, source, editing, control, validation)
    if held is not None:
        held.enter_context(finishing("the model that was found is being made"))
    return *trial.carried_out(working, consume), trial.trials.sections


def _streaming(builder: GraphBuilder, model: Model, output: Path | None) -> AbstractContextManager[None]:
    if output is None:
        return nullcontext()
    if isinstance(builder, StreamingBuilder):
        return builder.streaming(model, output)
    # a folder that cannot be written to is better known before the work than after it
    with aside(output):
        return nullcontext()


def make_plan(
    config: Mapping[str, Any],
    model: Model | Path,
    *,
    dataset: Dataset[Any, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    keep_arrays: bool = True,
    validation: Validation | None = None,
    observation: Observation | None = None,
) -> tuple[Plan, Report]:
    """What :func:`run` would do, without giving a model. Arguments and errors are those of :func:`run`.

    :param keep_arrays: ``False`` keeps only the light entries, and memory small.
    """
    with assembled(config, model, dataset, executor, progress) as (steps, this):
        noted = observation or Observation(measures=False)
        working = this.open(model)
        noted.lap("opening")
        entries: list[PlanEntry] = []
        kept: list[tuple[str, tuple[Transformation, ...]]] = []

        def consume(model: Model, name: str, graph: Graph, edits: Iterable[Transformation]) -> Model:
            noted.lap(f"statistics for {name}")
            described = describe(name, noted.passing(edits, graph), graph, entries, this.size(graph))
            if not keep_arrays and len(steps) == 1 and rounds_of(steps[0], graph) == 1:
                deque(described, maxlen=0)
                noted.lap(f"edits of {name}")
                return model
            # a later round or algorithm sees the model after this one
            transformations = tuple(described)
            noted.lap(f"edits of {name}")
            if keep_arrays:
                kept.append((name, transformations))
            return this.backend.inserter.apply(model, graph, transformations, this.options)

        _, first, _ = _executed(this, steps, model, working, consume, validation)
        if not entries:
            this.warn_of_nothing(steps)
        plan = Plan(this.backend.framework, tuple(entries), tuple(kept))
        return plan, Report.of(first, plan, this.notes)


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
    with assembled(config, model, dataset, executor, progress) as (steps, this):
        if algorithm is not None and algorithm not in (step.algorithm.name for step in steps):
            raise ValidationError(
                f"The config has no section for the algorithm {algorithm!r}; add one, or name another algorithm."
            )
        return this.collect(controlled_steps(steps)[0], this.open(model), algorithm)


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
def assembled(
    config: Mapping[str, Any],
    model: Model | Path,
    dataset: Dataset[Any, Any] | None,
    executor: Executor | None,
    progress: Progress | None,
    work_dir: Path | str | None = None,
    *,
    training: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Iterator[tuple[tuple[Step, ...], Run]]:
    """While this lasts: the steps of a config, and the run that executes them; arguments are those of :func:`run`.

    :param training: whether the model is going to be trained.
    :param options: of the backend, besides those of the config.
    """
    known = registry()
    # validates; a NNCFConfig may have been filled by hand since it was made
    checked = NNCFConfig.from_dict(dict(config))
    steps = steps_of(checked, known)
    if not training:
        check_untrained(step.algorithm for step in steps)
    taken = {name for step in steps for name in fields_dict(step.algorithm.parameters)}
    idle = [key for key in _TRAINING_KEYS if key in checked and not (key == "target_device" and key in taken)]
    idle += [key for key in checked if key not in KNOWN_KEYS]
    if idle and not training:
        nncf_logger.warning("Keys of the config that have no effect in this run: %s.", ", ".join(idle))
    options = {**backend_options(checked), **(options or {})}
    # the calling thread works, too
    own = ThreadPoolExecutor(max(available_cores() - 1, 1)) if executor is None else None
    thresholds = gc.get_threshold()
    # a graph is hundreds of thousands of objects that live to the end of the run: looking for garbage among them at
    # Python's usual pace takes a fifth of the time
    gc.set_threshold(max(thresholds[0], 50_000), *thresholds[1:])
    try:
        with one_thread():
            yield (
                steps,
                Run(
                    known.backend_for(model),
                    options,
                    dataset,
                    executor or own,
                    progress or SilentProgress(),
                    known,
                    work_dir=None if work_dir is None else Path(work_dir),
                    training=training,
                ),
            )
    finally:
        gc.set_threshold(*thresholds)
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)
