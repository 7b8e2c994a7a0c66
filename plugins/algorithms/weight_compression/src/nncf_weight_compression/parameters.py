"""Parameters of weight compression: what a config may say, and what it resolves to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import Factory, frozen

from nncf_core.advanced import AdvancedCompressionParameters
from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.numerics.formats import SCHEMES, Scheme, scheme_for
from nncf_core.numerics.grid import checked_table
from nncf_core.parameters import (
    BackupMode,
    CompressionFormat,
    CompressWeightsMode,
    GroupSizeFallbackMode,
    SensitivityMetric,
)
from nncf_weight_compression.codebook_fitting import Adaptive

_INT8_MODES = (CompressWeightsMode.INT8_ASYM, CompressWeightsMode.INT8_SYM, CompressWeightsMode.INT8)
_WITH_ADAPTERS = (CompressionFormat.FQ_LORA, CompressionFormat.FQ_LORA_NLS)
_INT8_ONLY_DEFAULTS = ("all_layers", "sensitivity_metric", "backup_mode")
_TABLE = "advanced_parameters.codebook"


@frozen
class WeightCompressionParameters:
    """The config section, see :func:`nncf.compress_weights` for the meaning of the fields."""

    mode: CompressWeightsMode = CompressWeightsMode.INT8_ASYM
    ratio: float | None = None
    group_size: int | None = None
    all_layers: bool | None = None
    sensitivity_metric: SensitivityMetric | None = None
    subset_size: int = 128
    backup_mode: BackupMode | None = None
    compression_format: CompressionFormat = CompressionFormat.DQ
    advanced_parameters: AdvancedCompressionParameters = Factory(AdvancedCompressionParameters)


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Compression of weights to a low-bit number format.",
    "properties": {
        "mode": {
            "description": "Number format of the weights; in all but the INT8 modes the primary one.",
            "enum": [str(mode) for mode in CompressWeightsMode],
            "default": "int8_asym",
        },
        "ratio": {
            "description": "Largest share of the ratio-defining weights' elements that gets the primary format.",
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 1.0,
        },
        "group_size": {
            "description": "Weights along the input channels that share a scale; -1: the whole channel.",
            "type": "integer",
            "minimum": -1,
        },
        "all_layers": {
            "description": "Whether embeddings and the last layer get the primary format too.",
            "type": "boolean",
            "default": False,
        },
        "sensitivity_metric": {
            "description": "How the weights that get the backup format are chosen. By default "
            "max_activation_variance where there is data, else weight_quantization_error.",
            "enum": [str(metric) for metric in SensitivityMetric],
        },
        "subset_size": {
            "description": "Samples of the dataset that statistics are collected on, at most.",
            "type": "integer",
            "minimum": 1,
            "default": 128,
        },
        "backup_mode": {
            "description": "Number format of the weights that do not get the primary one.",
            "enum": [str(mode) for mode in BackupMode],
        },
        "compression_format": {
            "description": "Whether weights are stored in low bits, or rounded when read, so as to be trained.",
            "enum": [str(form) for form in CompressionFormat],
            "default": "dequantize",
        },
        "advanced_parameters": {
            "description": "See nncf.AdvancedCompressionParameters.",
            "type": "object",
        },
    },
}


@frozen
class Settings:
    """Parameters after defaults and checks.

    :param primary: scheme of the ratio-defining weights.
    :param backup: scheme of the others; ``None`` leaves them as they are.
    :param group_size: group size of the primary scheme.
    :param trained: whether weights stay in floating point, and are rounded when they are read, so as to be trained.
    :param adapter_rank: rank of what is added to matrices before they are rounded; ``0``: nothing is.
    :param metric: what decides which weights keep the primary scheme; without meaning when all do.
    :param codebook: the user's table; ``None`` when there is none, or tables are fitted.
    :param adaptive: how tables are fitted; ``None`` when they are not.
    """

    primary: Scheme
    backup: Scheme | None
    backup_group_size: int
    ratio: float
    group_size: int
    all_layers: bool
    uniform: bool
    fallback: GroupSizeFallbackMode
    min_adjusted_group_size: int
    metric: SensitivityMetric
    codebook: np.ndarray | None
    trained: bool = False
    adapter_rank: int = 0
    adaptive: Adaptive | None = None

    @property
    def mixed(self) -> bool:
        """Whether weights have to be told apart by their sensitivity."""
        return not self.uniform and 0 < self.ratio < 1


def resolve(params: WeightCompressionParameters, has_data: bool = False) -> Settings:
    """Fill in defaults and check the combination.

    :param has_data: whether there are statistics of activations to be had.
    :raises ParameterNotSupportedError: for a combination that has no meaning or is not supported.
    :raises ValidationError: for a value out of range.
    """
    mode, advanced = params.mode, params.advanced_parameters
    uniform = mode in _INT8_MODES
    if uniform:
        _check_int8(params)
    if params.ratio is not None and not 0 <= params.ratio <= 1:
        raise ValidationError(f"ratio is {params.ratio}; it must lie between 0 and 1.")
    primary = _primary_scheme(mode)
    group_size = primary.default_group_size if params.group_size is None else params.group_size
    if group_size == 0 and uniform:
        group_size = -1
    if group_size < -1 or group_size == 0:
        raise ValidationError(f"group_size is {group_size}; it must be positive, or -1 for the whole channel.")
    fallback = GroupSizeFallbackMode(advanced.group_size_fallback_mode)
    if primary.fixed_group_size is not None:
        if group_size != primary.fixed_group_size:
            raise ValidationError(
                f"group_size is {group_size}; the format of mode {mode} fixes it to {primary.fixed_group_size}: "
                "leave it out."
            )
        if fallback is GroupSizeFallbackMode.ADJUST:
            raise ValidationError(
                f"group_size_fallback_mode ADJUST is not possible with mode {mode}, whose format fixes the "
                "group size: leave it out."
            )
    backup = _backup_scheme(params)
    return Settings(
        primary=primary,
        backup=primary if uniform else backup,
        backup_group_size=_backup_group_size(backup, group_size),
        ratio=1.0 if params.ratio is None or uniform else float(params.ratio),
        group_size=group_size,
        all_layers=bool(params.all_layers),
        uniform=uniform,
        fallback=fallback,
        min_adjusted_group_size=advanced.min_adjusted_group_size,
        metric=_metric(params, has_data),
        codebook=checked_table(_codebook(params), _TABLE) if mode == CompressWeightsMode.CODEBOOK else None,
        adaptive=_adaptive(params) if mode == CompressWeightsMode.ADAPTIVE_CODEBOOK else None,
        trained=params.compression_format is not CompressionFormat.DQ,
        adapter_rank=advanced.lora_adapter_rank if params.compression_format in _WITH_ADAPTERS else 0,
    )


def _check_int8(params: WeightCompressionParameters) -> None:
    mode = params.mode
    if params.ratio not in (None, 0, 1):
        raise ParameterNotSupportedError(f"Mode {mode} compresses all weights alike: leave out ratio.")
    if params.group_size not in (None, 0, -1):
        raise ParameterNotSupportedError(f"Mode {mode} is per channel: leave out group_size, or set it to -1.")
    given = [name for name in _INT8_ONLY_DEFAULTS if getattr(params, name) is not None]
    if given:
        raise ParameterNotSupportedError(f"Mode {mode} compresses all weights alike: leave out {', '.join(given)}.")
    if params.advanced_parameters.statistics_path is not None:
        raise ParameterNotSupportedError(
            f"Mode {mode} is data-free and uses no statistics: leave out advanced_parameters.statistics_path."
        )


def _primary_scheme(mode: CompressWeightsMode) -> Scheme:
    # a fitted table is stored as a user's is
    return SCHEMES["codebook"] if mode == CompressWeightsMode.ADAPTIVE_CODEBOOK else scheme_for(str(mode))


def _metric(params: WeightCompressionParameters, has_data: bool) -> SensitivityMetric:
    default = SensitivityMetric.MAX_ACTIVATION_VARIANCE if has_data else SensitivityMetric.WEIGHT_QUANTIZATION_ERROR
    return SensitivityMetric(params.sensitivity_metric or default)


_DEFAULT_BACKUP: Mapping[str, BackupMode] = {
    "mxfp4": BackupMode.MXFP8_E4M3,
    "mxfp8_e4m3": BackupMode.MXFP8_E4M3,
    "fp4": BackupMode.FP8_E4M3,
    "fp8_e4m3": BackupMode.FP8_E4M3,
}


def backup_of(params: WeightCompressionParameters) -> BackupMode:
    """The backup mode, where none is given that of the mode."""
    if params.backup_mode is not None:
        return BackupMode(params.backup_mode)
    if params.mode == CompressWeightsMode.E2M1:
        # the older name keeps the older default
        return BackupMode.INT8_ASYM
    return _DEFAULT_BACKUP.get(_primary_scheme(params.mode).name, BackupMode.INT8_ASYM)


def _backup_scheme(params: WeightCompressionParameters) -> Scheme | None:
    mode = backup_of(params)
    return None if mode == BackupMode.NONE else scheme_for(str(mode))


def _backup_group_size(backup: Scheme | None, group_size: int) -> int:
    if backup is None or backup.name.startswith("int8"):
        return -1
    return group_size if backup.fixed_group_size is None else backup.fixed_group_size


def _codebook(params: WeightCompressionParameters) -> np.ndarray:
    codebook = params.advanced_parameters.codebook
    if codebook is None:
        raise ValidationError(f"Mode codebook needs the table: set {_TABLE}.")
    try:
        return np.asarray(codebook, np.float32)
    except (TypeError, ValueError):
        raise ValidationError(f"{_TABLE} is {codebook!r}; it must be a list of numbers.") from None


def _adaptive(params: WeightCompressionParameters) -> Adaptive:
    advanced = params.advanced_parameters
    fitting = advanced.adaptive_codebook_params
    table = None if advanced.codebook is None else _codebook(params)
    return Adaptive.of(str(fitting.value_type), fitting.num_elements, fitting.across_blocks, table)
