"""Quantization that keeps a metric, as a public function: it makes a config and hands it to the one pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from nncf_core.advanced import AdvancedAccuracyRestorerParameters, AdvancedQuantizationParameters
from nncf_core.dataset import Dataset, check_dataset
from nncf_core.errors import ValidationError
from nncf_core.log import nncf_logger
from nncf_core.parameters import DropType, ModelType, QuantizationPreset, TargetDevice
from nncf_core.scopes import IgnoredScope

TModel = TypeVar("TModel")


def quantize_with_accuracy_control(
    model: TModel,
    calibration_dataset: Dataset[Any, Any],
    validation_dataset: Dataset[Any, Any],
    validation_fn: Callable[[Any, Iterable[Any]], Any],
    max_drop: float = 0.01,
    drop_type: DropType = DropType.ABSOLUTE,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    fast_bias_correction: bool = True,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_quantization_parameters: AdvancedQuantizationParameters | None = None,
    advanced_accuracy_restorer_parameters: AdvancedAccuracyRestorerParameters | None = None,
) -> TModel:
    """Quantize a model so that a metric drops by no more than ``max_drop``. The model that is given is not changed.

    The model is quantized as by :func:`nncf.quantize`. Where it loses too much, groups of quantizers are ranked by what
    they cost, and the first of them are left out. Ctrl-C ends the search, and gives the best model so far.

    :param validation_dataset: what ``validation_fn`` gets the items of; its ``transform_func``, where there is one,
        makes a model's inputs of them.
    :param validation_fn: takes a model and an iterable of items, and gives a metric, the higher the better; or a tuple
        of it and the metric of each item, or of it and a list of outputs for each item. The model is an
        ``onnxruntime.InferenceSession``, an ``openvino.CompiledModel``, or a ``torch.nn.Module`` in evaluation mode.
    :param max_drop: how much the metric may be below that of the original model.
    :param drop_type: whether that is a difference, or a share of the original model's.
    :param advanced_quantization_parameters: see :class:`nncf.AdvancedQuantizationParameters`.
    :param advanced_accuracy_restorer_parameters: see :class:`nncf.AdvancedAccuracyRestorerParameters`.
    :return: a new model of the same kind. Where the drop is not reached, the best that was found, with a warning.
    :raises ValidationFunctionError: when ``validation_fn`` fails, or gives what is no metric; ``error.best_model`` is
        the best model so far.
    :raises ValidationError: when no installed plugin provides the algorithm ``accuracy_control``.
    """
    from nncf_core.controlling import Validation
    from nncf_core.pipeline import run
    from nncf_core.progress import script_progress

    check_dataset(calibration_dataset)
    validation = Validation(validation_fn, validation_dataset)
    config = accuracy_control_config(
        max_drop=max_drop,
        drop_type=drop_type,
        restorer=advanced_accuracy_restorer_parameters,
        preset=preset,
        target_device=target_device,
        subset_size=subset_size,
        fast_bias_correction=fast_bias_correction,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced_parameters=advanced_quantization_parameters,
    )
    result = run(config, model, dataset=calibration_dataset, validation=validation, progress=script_progress())
    nncf_logger.info("Quantized\n%s", result.report)
    return result.model  # type: ignore[no-any-return]


def accuracy_control_config(
    *,
    max_drop: float = 0.01,
    drop_type: DropType = DropType.ABSOLUTE,
    restorer: AdvancedAccuracyRestorerParameters | None = None,
    subset_size: int = 300,
    target_device: TargetDevice = TargetDevice.ANY,
    **quantization: Any,
) -> Mapping[str, Any]:
    """The config that :func:`quantize_with_accuracy_control` runs for these arguments; plain JSON data.

    :param quantization: arguments of :func:`nncf_core.api.quantize_config`.
    :raises ValidationError: for ``restorer`` of another type, and arguments out of range.
    """
    from nncf_core.api import quantize_config
    from nncf_core.structuring import unstructure

    config = quantize_config(subset_size=subset_size, target_device=target_device, **quantization)
    own: dict[str, Any] = {"algorithm": "accuracy_control", "max_drop": unstructure(max_drop)}
    own |= {"drop_type": str(drop_type), "target_device": str(target_device), "subset_size": int(subset_size)}
    if restorer is not None:
        if not isinstance(restorer, AdvancedAccuracyRestorerParameters):
            raise ValidationError(
                f"advanced_accuracy_restorer_parameters is {restorer!r}; give "
                "nncf.AdvancedAccuracyRestorerParameters(max_num_iterations=...), say."
            )
        own["advanced_parameters"] = unstructure(restorer)
    return {"compression": [*config["compression"], own]}
