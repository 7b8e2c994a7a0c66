"""Advanced parameters of the public functions."""

from __future__ import annotations

import sys
from typing import Any

from attrs import define, field
from attrs.validators import optional

from nncf_core.dataclass_like import dataclass_like
from nncf_core.parameters import GroupSizeFallbackMode, OverflowFix, StrEnum
from nncf_core.parameters import QuantizationScheme as QuantizationScheme
from nncf_core.range_estimator import RangeEstimatorParameters
from nncf_core.validators import instance_of, member_of, natural, not_negative, positive


class RestoreMode(StrEnum):
    """What accuracy control reverts to float."""

    ACTIVATIONS_AND_WEIGHTS = "activations_and_weights"
    ONLY_ACTIVATIONS = "only_activations"


class FP8Type(StrEnum):
    """8-bit float formats."""

    E4M3 = "f8e4m3"
    E5M2 = "f8e5m2"


class QuantizerPropagationRule(StrEnum):
    """How quantizers of branches are merged."""

    DO_NOT_MERGE_BRANCHES = "0"
    MERGE_IF_ALL_BRANCHES_SAME = "1"
    MERGE_WITH_POTENTIAL_REQUANTIZATION = "2"
    MERGE_ALL_IN_ONE = "3"


@dataclass_like
@define
class QuantizationParameters:
    """Restrictions of a quantizer; ``None`` leaves the choice to the algorithm."""

    num_bits: int | None = None
    mode: QuantizationScheme | None = field(default=None, validator=member_of(QuantizationScheme))
    signedness_to_force: bool | None = None
    per_channel: bool | None = None
    narrow_range: bool | None = None


@dataclass_like
@define
class FP8QuantizationParameters:
    """Restrictions of an 8-bit float quantizer."""

    destination_type: FP8Type | None = field(default=None, validator=member_of(FP8Type))


@dataclass_like
@define
class AdvancedBiasCorrectionParameters:
    """Bias correction.

    :param apply_for_all_nodes: whether layers without a bias get one.
    :param threshold: a bias stays as it is when a correction is larger than so many times the value that it corrects,
        zeros apart; ``None``: it never does.
    """

    apply_for_all_nodes: bool = False
    threshold: float | None = field(default=None, validator=not_negative)


@dataclass_like
@define
class AdvancedSmoothQuantParameters:
    """Strength of SmoothQuant for each family of operators; negative: off."""

    convolution: float = -1
    matmul: float = 0.95


@dataclass_like
@define
class AdvancedQuantizationParameters:
    """Advanced parameters of :func:`nncf.quantize`."""

    overflow_fix: OverflowFix | None = field(default=None, validator=member_of(OverflowFix))
    quantize_outputs: bool = False
    inplace_statistics: bool = True
    disable_channel_alignment: bool = True
    disable_bias_correction: bool = False
    batchwise_statistics: bool | None = None
    activations_quantization_params: QuantizationParameters | FP8QuantizationParameters | None = None
    weights_quantization_params: QuantizationParameters | FP8QuantizationParameters | None = None
    quantizer_propagation_rule: QuantizerPropagationRule = field(
        default=QuantizerPropagationRule.MERGE_ALL_IN_ONE, validator=member_of(QuantizerPropagationRule)
    )
    activations_range_estimator_params: RangeEstimatorParameters = field(
        factory=RangeEstimatorParameters, validator=instance_of(RangeEstimatorParameters)
    )
    weights_range_estimator_params: RangeEstimatorParameters = field(
        factory=RangeEstimatorParameters, validator=instance_of(RangeEstimatorParameters)
    )
    bias_correction_params: AdvancedBiasCorrectionParameters = field(
        factory=AdvancedBiasCorrectionParameters, validator=instance_of(AdvancedBiasCorrectionParameters)
    )
    smooth_quant_alphas: AdvancedSmoothQuantParameters = field(
        factory=AdvancedSmoothQuantParameters, validator=instance_of(AdvancedSmoothQuantParameters)
    )
    smooth_quant_alpha: float | None = None
    backend_params: dict[str, Any] = field(factory=dict, validator=instance_of(dict))


@dataclass_like
@define
class AdvancedAWQParameters:
    """Activation-aware weight correction (https://arxiv.org/abs/2306.00978).

    :param subset_size: number of samples.
    :param percent_to_apply: share of the channels that is corrected.
    :param alpha_min: lowest exponent of the search.
    :param alpha_max: highest exponent of the search.
    :param steps: number of exponents.
    :param prefer_data_aware_scaling: use data when there is any.
    """

    subset_size: int = field(default=32, validator=positive)
    percent_to_apply: float = 0.002
    alpha_min: float = 0.0
    alpha_max: float = 1.0
    steps: int = field(default=100, validator=positive)
    prefer_data_aware_scaling: bool = True


@dataclass_like
@define
class AdvancedScaleEstimationParameters:
    """Scale estimation."""

    subset_size: int = field(default=64, validator=positive)
    initial_steps: int = 5
    scale_steps: int = 5
    weight_penalty: float = -1.0


@dataclass_like
@define
class AdvancedGPTQParameters:
    """GPTQ (https://arxiv.org/abs/2210.17323)."""

    damp_percent: float = 0.1
    block_size: int = field(default=128, validator=positive)
    subset_size: int = field(default=128, validator=positive)


@dataclass_like
@define
class AdvancedLoraCorrectionParameters:
    """Low-rank correction of the quantization error."""

    adapter_rank: int = field(default=8, validator=positive)
    num_iterations: int = 3
    apply_regularization: bool = True
    subset_size: int = field(default=128, validator=positive)
    use_int8_adapters: bool = True


@dataclass_like
@define
class AdvancedAdaptiveCodebookParameters:
    """Codebooks that are fitted to the weights.

    :param value_type: number format of a table's values.
    :param across_blocks: whether weights at the same place of repeated blocks share a table.
    :param num_elements: number of a table's values.
    """

    value_type: str = "f8e4m3"
    across_blocks: bool = False
    num_elements: int = field(default=16, validator=positive)


@dataclass_like
@define
class AdvancedCompressionParameters:
    """Advanced parameters of :func:`nncf.compress_weights`.

    :param statistics_path: folder of statistics, read where they are there and written where not.
    :param lora_adapter_rank: rank of absorbable adapters.
    :param group_size_fallback_mode: what to do where the group size does not divide the channels.
    :param min_adjusted_group_size: smallest group size that ADJUST may choose.
    :param codebook: increasing values of the table of mode CODEBOOK, one dimension.
    :param backend_params: the backend's own options.
    """

    statistics_path: str | None = None
    awq_params: AdvancedAWQParameters = field(
        factory=AdvancedAWQParameters, validator=instance_of(AdvancedAWQParameters)
    )
    scale_estimation_params: AdvancedScaleEstimationParameters = field(
        factory=AdvancedScaleEstimationParameters, validator=instance_of(AdvancedScaleEstimationParameters)
    )
    gptq_params: AdvancedGPTQParameters = field(
        factory=AdvancedGPTQParameters, validator=instance_of(AdvancedGPTQParameters)
    )
    lora_correction_params: AdvancedLoraCorrectionParameters = field(
        factory=AdvancedLoraCorrectionParameters, validator=instance_of(AdvancedLoraCorrectionParameters)
    )
    lora_adapter_rank: int = field(default=256, validator=positive)
    backend_params: dict[str, Any] = field(factory=dict, validator=instance_of(dict))
    codebook: Any = field(default=None, eq=False)
    group_size_fallback_mode: GroupSizeFallbackMode = field(
        default=GroupSizeFallbackMode.ERROR, validator=member_of(GroupSizeFallbackMode)
    )
    min_adjusted_group_size: int = field(default=32, validator=positive)
    adaptive_codebook_params: AdvancedAdaptiveCodebookParameters = field(
        factory=AdvancedAdaptiveCodebookParameters, validator=instance_of(AdvancedAdaptiveCodebookParameters)
    )


@dataclass_like
@define
class AdvancedAccuracyRestorerParameters:
    """Advanced parameters of :func:`nncf.quantize_with_accuracy_control`.

    :param max_num_iterations: how many models are validated on the whole dataset, besides the original and the one that
        is all quantized; 0: none.
    :param tune_hyperparams: try other parameters of quantization before anything is reverted.
    :param ranking_subset_size: how many items of the validation dataset groups of quantizers are ranked on; ``None``:
        ``subset_size``, or 64 where outputs are compared. With all of them, or more, the validation function is never
        called with a part.
    :param num_ranking_workers: how many threads rank, and call the validation function; ``None``: it is called by one.
    :param intermediate_model_dir: folder for the model that is all quantized, and for the best one where a run fails.
    :param restore_mode: what is reverted.
    :param sensitivity_report_dir: folder for the report of which quantizers cost how much; with it groups are ranked
        also when nothing has to be reverted.
    """

    max_num_iterations: int = field(default=sys.maxsize, validator=natural)
    tune_hyperparams: bool = False
    ranking_subset_size: int | None = field(default=None, validator=optional(positive))
    num_ranking_workers: int | None = field(default=None, validator=optional(positive))
    intermediate_model_dir: str | None = None
    restore_mode: RestoreMode = field(default=RestoreMode.ACTIVATIONS_AND_WEIGHTS, validator=member_of(RestoreMode))
    sensitivity_report_dir: str | None = None
