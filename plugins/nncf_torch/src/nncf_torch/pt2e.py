"""Quantization of graph modules that ``torch.export`` made, by NNCF's experimental names."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from torch import fx

from nncf_core.advanced import (
    AdvancedBiasCorrectionParameters,
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    FP8QuantizationParameters,
    QuantizationParameters,
    QuantizerPropagationRule,
)
from nncf_core.api import quantize
from nncf_core.dataset import Dataset
from nncf_core.errors import ParameterNotSupportedError, UnsupportedModelError
from nncf_core.parameters import ModelType, OverflowFix, QuantizationMode, QuantizationPreset, TargetDevice
from nncf_core.range_estimator import RangeEstimatorParameters
from nncf_core.scopes import IgnoredScope, Subgraph

__all__ = ["OpenVINOQuantizer", "quantize_pt2e"]


@define(kw_only=True)
class OpenVINOQuantizer:
    """What OpenVINO's device computes with integers, and how; for :func:`quantize_pt2e`.

    Parameters are those of :func:`nncf.quantize` and :class:`nncf.AdvancedQuantizationParameters`.
    """

    mode: QuantizationMode | None = None
    preset: QuantizationPreset | None = None
    target_device: TargetDevice = TargetDevice.ANY
    model_type: ModelType | None = None
    ignored_scope: IgnoredScope | None = None
    overflow_fix: OverflowFix | None = None
    quantize_outputs: bool = False
    activations_quantization_params: QuantizationParameters | FP8QuantizationParameters | None = None
    weights_quantization_params: QuantizationParameters | FP8QuantizationParameters | None = None
    quantizer_propagation_rule: QuantizerPropagationRule = field(default=QuantizerPropagationRule.MERGE_ALL_IN_ONE)

    def set_ignored_scope(
        self,
        names: list[str] | None = None,
        patterns: list[str] | None = None,
        types: list[str] | None = None,
        subgraphs: list[tuple[list[str], list[str]]] | None = None,
        validate: bool = True,
    ) -> None:
        """Nodes to leave out, see :class:`nncf.IgnoredScope`.

        :param subgraphs: pairs of names of inputs and names of outputs.
        """
        self.ignored_scope = IgnoredScope(
            names or [],
            patterns or [],
            types or [],
            [Subgraph(list(inputs), list(outputs)) for inputs, outputs in subgraphs or ()],
            validate,
        )


_OFF = AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)


def quantize_pt2e(
    model: fx.GraphModule,
    quantizer: Any,
    calibration_dataset: Dataset[Any, Any],
    subset_size: int = 300,
    fast_bias_correction: bool | None = True,
    smooth_quant: bool = False,
    bias_correction_params: AdvancedBiasCorrectionParameters | None = None,
    smooth_quant_params: AdvancedSmoothQuantParameters | None = None,
    activations_range_estimator_params: RangeEstimatorParameters | None = None,
    weights_range_estimator_params: RangeEstimatorParameters | None = None,
    batchwise_statistics: bool | None = None,
    fold_quantize: bool = True,
    do_copy: bool = False,
) -> fx.GraphModule:
    """Quantize a graph module.

    :param model: what ``torch.export.export(...).module()`` gives. It is not changed.
    :param quantizer: an :class:`OpenVINOQuantizer`.
    :param fast_bias_correction: see :func:`nncf.quantize`; ``None``: biases are not corrected.
    :param smooth_quant: whether ranges of channels are evened out first.
    :param fold_quantize: whether weights are stored as integers.
    :param do_copy: not needed, as the result is always a new module.
    :raises ParameterNotSupportedError: for quantizers of other kinds.
    :raises UnsupportedModelError: when the model is no graph module.
    """
    if not isinstance(model, fx.GraphModule):
        raise UnsupportedModelError(
            f"A {type(model).__name__} is no graph module; give torch.export.export(model, args).module(), or call "
            "nncf.quantize, which takes modules and exported programs."
        )
    if not isinstance(quantizer, OpenVINOQuantizer):
        raise ParameterNotSupportedError(
            f"The quantizer is a {type(quantizer).__name__}, whose annotations are not read; give "
            "nncf.experimental.torch.fx.OpenVINOQuantizer(), or prepare and convert the model with the quantizer's own "
            "functions."
        )
    advanced = AdvancedQuantizationParameters(
        overflow_fix=quantizer.overflow_fix,
        quantize_outputs=quantizer.quantize_outputs,
        activations_quantization_params=quantizer.activations_quantization_params,
        weights_quantization_params=quantizer.weights_quantization_params,
        quantizer_propagation_rule=quantizer.quantizer_propagation_rule,
        disable_bias_correction=fast_bias_correction is None,
        bias_correction_params=bias_correction_params or AdvancedBiasCorrectionParameters(),
        smooth_quant_alphas=(smooth_quant_params or AdvancedSmoothQuantParameters()) if smooth_quant else _OFF,
        activations_range_estimator_params=activations_range_estimator_params or RangeEstimatorParameters(),
        weights_range_estimator_params=weights_range_estimator_params or RangeEstimatorParameters(),
        batchwise_statistics=batchwise_statistics,
        backend_params={"compress_weights": fold_quantize},
    )
    return quantize(
        model,
        calibration_dataset,
        mode=quantizer.mode,
        preset=quantizer.preset,
        target_device=quantizer.target_device,
        subset_size=subset_size,
        fast_bias_correction=fast_bias_correction is not False,
        model_type=quantizer.model_type,
        ignored_scope=quantizer.ignored_scope,
        advanced_parameters=advanced,
    )
