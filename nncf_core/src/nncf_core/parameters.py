"""The enumerations of the public API. Members are strings and compare equal to their values."""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "BackupMode",
    "CompressWeightsMode",
    "CompressionFormat",
    "DropType",
    "GroupSizeFallbackMode",
    "ModelType",
    "OverflowFix",
    "PruneMode",
    "QuantizationMode",
    "QuantizationPreset",
    "QuantizationScheme",
    "QuantizerGroup",
    "SensitivityMetric",
    "StrEnum",
    "StripFormat",
    "TargetDevice",
]


class TargetDevice(StrEnum):
    """Device that the compressed model will run on."""

    ANY = "ANY"
    CPU = "CPU"
    GPU = "GPU"
    NPU = "NPU"
    CPU_SPR = "CPU_SPR"


class ModelType(StrEnum):
    """Kind of model whose specifics are taken into account."""

    TRANSFORMER = "transformer"


class DropType(StrEnum):
    """How the accuracy drop between the original and the compressed model is calculated."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"


class QuantizationScheme(StrEnum):
    """Whether a quantizer has a zero point."""

    SYMMETRIC = "symmetric"
    ASYMMETRIC = "asymmetric"


class QuantizerGroup(StrEnum):
    """What a quantizer quantizes."""

    ACTIVATIONS = "activations"
    WEIGHTS = "weights"


class QuantizationPreset(StrEnum):
    """Quantization scheme of weights and activations.

    ``PERFORMANCE``: both symmetric. ``MIXED``: weights symmetric, activations asymmetric.
    """

    PERFORMANCE = "performance"
    MIXED = "mixed"

    def get_params_configured_by_preset(self, quant_group: QuantizerGroup) -> dict[str, QuantizationScheme]:
        """``{"mode": scheme}`` of the quantizers of a group."""
        mixed = self is QuantizationPreset.MIXED and quant_group == QuantizerGroup.ACTIVATIONS
        return {"mode": QuantizationScheme.ASYMMETRIC if mixed else QuantizationScheme.SYMMETRIC}


class QuantizationMode(StrEnum):
    """Special modes of :func:`nncf.quantize` (FP8: https://arxiv.org/abs/2209.05433)."""

    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


class OverflowFix(StrEnum):
    """Whether weights use half of the 8-bit range, against saturation of older x86 instructions.

    ``ENABLE``: all weights. ``FIRST_LAYER``: the first layers after the model's inputs. ``DISABLE``: none.
    """

    ENABLE = "enable"
    FIRST_LAYER = "first_layer_only"
    DISABLE = "disable"


class CompressWeightsMode(StrEnum):
    """Number format of compressed weights.

    In the INT4, INT3, INT2, NF4, FP4, MX and codebook modes that format is the *primary* one: embeddings
    and the last layer get the backup format unless ``all_layers`` is set.
    """

    INT8_SYM = "int8_sym"
    INT8_ASYM = "int8_asym"
    INT4_SYM = "int4_sym"
    INT4_ASYM = "int4_asym"
    NF4 = "nf4"
    INT8 = "int8"  # deprecated: INT8_ASYM
    E2M1 = "e2m1"  # the name of MXFP4 before it was renamed
    MXFP4 = "mxfp4"
    MXFP8_E4M3 = "mxfp8_e4m3"
    FP8_E4M3 = "fp8_e4m3"
    FP4 = "fp4"
    NVFP4 = "nvfp4"
    CB4 = "cb4"
    CB4_F8E4M3 = "cb4_f8e4m3"  # the name of CB4 before it was renamed
    CODEBOOK = "codebook"
    ADAPTIVE_CODEBOOK = "adaptive_codebook"
    INT3_SYM = "int3_sym"
    INT2_SYM = "int2_sym"


class BackupMode(StrEnum):
    """Number format of the weights that do not get the primary format. ``NONE`` leaves them as they are."""

    NONE = "none"
    INT8_SYM = "int8_sym"
    INT8_ASYM = "int8_asym"
    MXFP8_E4M3 = "mxfp8_e4m3"
    FP8_E4M3 = "fp8_e4m3"


class CompressionFormat(StrEnum):
    """Form in which compressed weights are put into the model.

    ``DQ``: low-bit constants and a decompression subgraph. ``FQ``: float weights that are rounded when they are read,
    with trained ranges. ``FQ_LORA`` and ``FQ_LORA_NLS``: the same with low-rank adapters, which are added before
    rounding; the latter to be trained while fewer of their ranks are active.
    """

    DQ = "dequantize"
    FQ = "fake_quantize"
    FQ_LORA = "fake_quantize_with_lora"
    FQ_LORA_NLS = "fake_quantize_with_lora_nls"


class StripFormat(StrEnum):
    """Form of a model after :func:`nncf.strip`.

    ``NATIVE``: as much as possible is kept. ``DQ``: low-bit constants and a decompression subgraph.
    ``IN_PLACE``: weights are replaced by their quantized and dequantized values.
    """

    NATIVE = "native"
    DQ = "dequantize"
    IN_PLACE = "in_place"


class SensitivityMetric(StrEnum):
    """How the sensitivity of a layer to low-bit weights is estimated for mixed precision."""

    WEIGHT_QUANTIZATION_ERROR = "weight_quantization_error"
    HESSIAN_INPUT_ACTIVATION = "hessian_input_activation"
    MEAN_ACTIVATION_VARIANCE = "mean_activation_variance"
    MAX_ACTIVATION_VARIANCE = "max_activation_variance"
    MEAN_ACTIVATION_MAGNITUDE = "mean_activation_magnitude"


class GroupSizeFallbackMode(StrEnum):
    """What to do with a weight whose channels the group size does not divide.

    ``ERROR``: raise. ``IGNORE``: leave the weight in its original precision. ``ADJUST``: take a smaller
    group size that divides it, or the backup format where that would be too small.
    """

    ERROR = "error"
    IGNORE = "ignore"
    ADJUST = "adjust"


class PruneMode(StrEnum):
    """How weights to prune are chosen."""

    UNSTRUCTURED_MAGNITUDE_LOCAL = "unstructured_magnitude_local"
    UNSTRUCTURED_MAGNITUDE_GLOBAL = "unstructured_magnitude_global"
    UNSTRUCTURED_REGULARIZATION_BASED = "unstructured_regularization_based"
