"""Pruning of single weights by a call, and figures of it.

``nncf.prune`` is a config of one section: magnitude sparsity at a level, or RB sparsity. Models that are trained get
masks, others zeros.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from attrs import frozen

from nncf_core.dataset import Dataset, check_dataset
from nncf_core.errors import ParameterNotSupportedError, UnsupportedBackendError, ValidationError
from nncf_core.graph import Constant
from nncf_core.log import nncf_logger
from nncf_core.parameters import PruneMode
from nncf_core.pipeline import run
from nncf_core.registry import registry
from nncf_core.report import weight_constants
from nncf_core.scopes import IgnoredScope
from nncf_core.structuring import unstructure
from nncf_core.training.assembling import assemble
from nncf_core.training.contracts import TrainableInserter, TrainedModel
from nncf_core.training.control import counted, share_of
from nncf_core.training.statistics import table

TModel = TypeVar("TModel")


def section_for(mode: PruneMode | str, ratio: float = 0.0) -> dict[str, Any]:
    """The config section of a mode.

    :raises ValidationError: for an unknown mode.
    """
    if mode == PruneMode.UNSTRUCTURED_REGULARIZATION_BASED:
        return {"algorithm": "rb_sparsity"}
    if mode not in list(PruneMode):
        raise ValidationError(f"mode is {mode!r}; it must be one of {', '.join(repr(str(m)) for m in PruneMode)}.")
    of_all = mode == PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL
    params = {
        "sparsity_target": ratio,
        "weight_importance": "normed_abs" if of_all else "abs",
        "sparsity_level_setting_mode": "global" if of_all else "local",
    }
    return {"algorithm": "magnitude_sparsity", "sparsity_init": ratio, "params": params}


def prune(
    model: TModel,
    mode: PruneMode,
    *,
    ratio: float | None = None,
    ignored_scope: IgnoredScope | None = None,
    examples_inputs: Any | None = None,
) -> TModel:
    """Prune single weights.

    PyTorch modules get masks, with which they can be trained: :func:`nncf.strip` folds them. Models of other backends
    get zeros in place of weights. The model that is given is not changed.

    :param model: a model of an installed backend's framework.
    :param mode: ``UNSTRUCTURED_MAGNITUDE_LOCAL``: the smallest elements of each weight;
        ``UNSTRUCTURED_MAGNITUDE_GLOBAL``: of all weights together, each divided by its norm;
        ``UNSTRUCTURED_REGULARIZATION_BASED``: masks that are trained with ``RBLoss``.
    :param ratio: share of zeros, from 0 to below 1; needed for the magnitude modes, without meaning for the other.
    :param ignored_scope: layers, or weights by their names, to leave out.
    :param examples_inputs: an input to trace the model with, for backends that trace; without one weights are found by
        the classes of modules.
    :return: the pruned model.
    :raises ValidationError: when ``ratio`` is missing, or not from 0 to below 1.
    :raises ParameterNotSupportedError: for the regularization mode where models are not trained.
    """
    trained = mode == PruneMode.UNSTRUCTURED_REGULARIZATION_BASED
    if trained and ratio is not None:
        nncf_logger.warning("ratio has no meaning for %s: the loss leads to its target_ratio.", mode)
    section = section_for(mode, 0.0 if trained else share_of("ratio", ratio))
    if ignored_scope is not None:
        section["ignored_scope"] = unstructure(ignored_scope)
    config = {"compression": section}
    backend = registry().backend_for(model)
    if isinstance(backend.inserter, TrainableInserter):
        options = {} if examples_inputs is None else {"example_input": examples_inputs}
        return assemble(config, model, options=options)[1]  # type: ignore[no-any-return]
    if trained:
        raise ParameterNotSupportedError(
            f"{backend.builder.title} models are not trained; prune them by magnitude, or prune the PyTorch model."
        )
    return run(config, model).model  # type: ignore[no-any-return]


@frozen
class TensorPruningStatistic:
    """A weight with zeros.

    :param tensor_name: of the constant.
    :param shape: its shape.
    :param pruned_ratio: share of zeros.
    """

    tensor_name: str
    shape: tuple[int, ...]
    pruned_ratio: float


@frozen
class ModelPruningStatistic:
    """A model with zeros.

    :param pruning_ratio: share of zeros among the pruned weights.
    :param global_pruning_ratio: share of zeros of the pruned weights among all of the model's.
    :param pruned_tensors: the pruned weights.
    """

    pruning_ratio: float
    global_pruning_ratio: float
    pruned_tensors: tuple[TensorPruningStatistic, ...]

    def __str__(self) -> str:
        rows: list[tuple[object, ...]] = [
            (each.tensor_name, list(each.shape), each.pruned_ratio) for each in self.pruned_tensors
        ]
        rows += [("All pruned weights", "", self.pruning_ratio), ("The model", "", self.global_pruning_ratio)]
        return table("Pruning statistics:", rows, ("Weight", "Shape", "Pruned ratio"))


def pruning_statistic(model: Any) -> ModelPruningStatistic:
    """How many weights are zero: of those with masks, or, where there are none, of those with any zeros.

    :param model: of an installed backend's framework.
    """
    backend = registry().backend_for(model)
    graph = backend.builder.build(backend.builder.open(model, {}))
    weights = weight_constants(graph)
    counted = [constant for constant in graph.constants.values() if constant.masked]
    zeros = {constant.name: _zeros(constant) for constant in counted or weights}
    found = [constant for constant in counted or weights if counted or zeros[constant.name]]
    pruned = sum(zeros[constant.name] for constant in found)
    among = sum(constant.size for constant in found)
    total = sum(constant.size for constant in {c.name: c for c in (*weights, *found)}.values())
    return ModelPruningStatistic(
        pruned / among if among else 0.0,
        pruned / total if total else 0.0,
        tuple(TensorPruningStatistic(c.name, c.shape, zeros[c.name] / c.size) for c in found),
    )


def _zeros(constant: Constant) -> int:
    array = constant.read()
    found = constant.size - int(np.count_nonzero(array))
    constant.release()
    return found


def batch_norm_adaptation(
    model: TModel, calibration_dataset: Dataset[Any, Any], *, num_iterations: int | None = None
) -> TModel:
    """Let the normalization of a model see data, so that its statistics are those of the model as it is, in place.

    :param model: a model of a framework that trains; it is changed, and returned.
    :param calibration_dataset: items are inputs of the model.
    :param num_iterations: number of items; ``None``: all.
    :raises UnsupportedDatasetError: when the data is no :class:`nncf.Dataset`, has no items, or does not fit the model.
    :raises ValidationError: for a number of items that is no integer from 1.
    :raises UnsupportedBackendError: for models that are not trained.
    """
    check_dataset(calibration_dataset)
    batch = calibration_dataset.get_batch_size() or 1
    samples = None if num_iterations is None else counted("num_iterations", num_iterations, 1) * batch
    trained_model(model, calibration_dataset).adapt_batch_norm(samples)
    return model


def trained_model(model: Any, dataset: Dataset[Any, Any] | None = None) -> TrainedModel:
    """Handles of a model that a script trains.

    :raises UnsupportedBackendError: for models that are not trained.
    """
    backend = registry().backend_for(model)
    if not isinstance(backend.inserter, TrainableInserter):
        raise UnsupportedBackendError(f"{backend.builder.title} models are not trained; give the PyTorch model.")
    return backend.inserter.resumed(model, dataset)
