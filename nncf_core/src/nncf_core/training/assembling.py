"""From a config and a model to a controller and the model in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

from nncf_core.contracts import Model
from nncf_core.dataset import Dataset
from nncf_core.errors import UnsupportedBackendError, ValidationError
from nncf_core.graph import Graph
from nncf_core.pipeline import assembled
from nncf_core.progress import Progress
from nncf_core.registry import Backend
from nncf_core.rounds import Run
from nncf_core.sections import Step
from nncf_core.statistics import Statistics
from nncf_core.training.composite import CompositeController
from nncf_core.training.contracts import TrainableInserter, TrainedModel, TrainingAlgorithm, Tuner
from nncf_core.training.control import CompressionAlgorithmController
from nncf_core.transformations import Transformation

BUILDER_STATE, CONTROLLER_STATE = "builder_state", "ctrl_state"
"""Keys of what :meth:`CompressionAlgorithmController.get_compression_state` gives."""


def assemble(
    config: Mapping[str, Any],
    model: Model,
    *,
    dataset: Dataset[Any, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    tuner: Callable[[Model], Tuner] | None = None,
) -> tuple[CompressionAlgorithmController, Model]:
    """Compress a model as a config says, to be trained.

    :param config: an :class:`~nncf_core.config.nncf_config.NNCFConfig`, or a dict that is one.
    :param model: it is not changed.
    :param dataset: data for algorithms that begin with statistics of activations.
    :param state: what :meth:`CompressionAlgorithmController.get_compression_state` gave. Then no data is needed, and
        the model's tensors are to be loaded afterwards.
    :param options: of the backend, besides those of the config.
    :param tuner: makes a way to try things out, of the model in training.
    :return: the controller, one of all algorithms where there are several, and the model to train.
    :raises ValidationError: when the config is not valid, or the state is of another model or config.
    :raises UnsupportedBackendError: when models of this kind are not trained.
    """
    with assembled(config, model, dataset, executor, progress, training=True, options=options) as (steps, this):
        inserter = _trainable(this.backend)
        graph = this.graph(steps, this.open(model))
        statistics: dict[str, Statistics] = {}
        if state is None:
            working, _ = this.execute(steps, this.open(model), _apply(this), statistics.__setitem__)
        else:
            _check_state(state, steps)
            working = inserter.restored(model, state[BUILDER_STATE], this.options)
        trained = inserter.trained(working, model, dataset, new=state is None)
        trained.tuner = None if tuner is None else tuner(trained.model)
        controller = _controller(steps, trained, graph, statistics)
    if state is not None:
        controller.load_states(state[CONTROLLER_STATE])
    return controller, trained.model


def _trainable(backend: Backend) -> TrainableInserter:
    if isinstance(backend.inserter, TrainableInserter):
        return backend.inserter
    raise UnsupportedBackendError(
        f"{backend.builder.title} models are not trained; nncf_core.pipeline.run, or nncf run, compress them."
    )


def _apply(this: Run) -> Any:
    def consume(model: Model, name: str, graph: Graph, edits: Iterable[Transformation]) -> Model:
        return this.backend.inserter.apply(model, graph, edits, this.options)

    return consume


def _controller(
    steps: Iterable[Step], trained: TrainedModel, graph: Graph, statistics: Mapping[str, Statistics]
) -> CompressionAlgorithmController:
    made = []
    for step in steps:
        if isinstance(step.algorithm, TrainingAlgorithm):
            found = statistics.get(step.algorithm.name, Statistics())
            made.append(step.algorithm.controller(trained, graph, found, step.params))
            made[-1].attach(trained)
    if len(made) == 1:
        return made[0]
    composite = CompositeController(trained.model, made)
    composite.attach(trained)
    return composite


def _check_state(state: Mapping[str, Any], steps: Iterable[Step]) -> None:
    if not isinstance(state, Mapping) or not {BUILDER_STATE, CONTROLLER_STATE} <= set(state):
        raise ValidationError(
            "The compression state is none: controller.get_compression_state() gives one, with the keys "
            f"{BUILDER_STATE!r} and {CONTROLLER_STATE!r}."
        )
    training = {step.algorithm.name for step in steps if isinstance(step.algorithm, TrainingAlgorithm)}
    for name in state[CONTROLLER_STATE]:
        if name not in training:
            raise ValidationError(
                f"The compression state is of a config with a section for {name!r}, which this config does not "
                "have: go on with that config."
            )
    for name in sorted(training.difference(state[CONTROLLER_STATE])):
        raise ValidationError(
            f"The config has a section for {name!r}, which the config of the compression state did not have: go on "
            "with that config, or begin anew with the trained weights and without compression_state."
        )
