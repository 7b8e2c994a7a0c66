"""The enumerations."""

from nncf_core.parameters import (
    BackupMode,
    CompressionFormat,
    CompressWeightsMode,
    DropType,
    GroupSizeFallbackMode,
    ModelType,
    OverflowFix,
    PruneMode,
    QuantizationMode,
    QuantizationPreset,
    SensitivityMetric,
    StrEnum,
    StripFormat,
    TargetDevice,
)

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
    "SensitivityMetric",
    "StrEnum",
    "StripFormat",
    "TargetDevice",
]
