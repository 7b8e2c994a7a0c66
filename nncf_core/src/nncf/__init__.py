"""Neural network compression: the documented names, loaded when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nncf_core import __version__
from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf import api as api
    from nncf import common as common
    from nncf import config as config
    from nncf import data as data
    from nncf import errors as errors
    from nncf import experimental as experimental
    from nncf import parameters as parameters
    from nncf import pruning as pruning
    from nncf import quantization as quantization
    from nncf import scopes as scopes
    from nncf_core.advanced import (
        AdvancedAccuracyRestorerParameters as AdvancedAccuracyRestorerParameters,
    )
    from nncf_core.advanced import (
        AdvancedAWQParameters as AdvancedAWQParameters,
    )
    from nncf_core.advanced import (
        AdvancedBiasCorrectionParameters as AdvancedBiasCorrectionParameters,
    )
    from nncf_core.advanced import (
        AdvancedCompressionParameters as AdvancedCompressionParameters,
    )
    from nncf_core.advanced import (
        AdvancedGPTQParameters as AdvancedGPTQParameters,
    )
    from nncf_core.advanced import (
        AdvancedLoraCorrectionParameters as AdvancedLoraCorrectionParameters,
    )
    from nncf_core.advanced import (
        AdvancedQuantizationParameters as AdvancedQuantizationParameters,
    )
    from nncf_core.advanced import (
        AdvancedScaleEstimationParameters as AdvancedScaleEstimationParameters,
    )
    from nncf_core.advanced import (
        AdvancedSmoothQuantParameters as AdvancedSmoothQuantParameters,
    )
    from nncf_core.api import (
        build_graph as build_graph,
    )
    from nncf_core.api import (
        compress_weights as compress_weights,
    )
    from nncf_core.api import (
        quantize as quantize,
    )
    from nncf_core.api import (
        quantize_with_accuracy_control as quantize_with_accuracy_control,
    )
    from nncf_core.api import (
        strip as strip,
    )
    from nncf_core.config.nncf_config import (
        NNCFConfig as NNCFConfig,
    )
    from nncf_core.dataset import (
        Dataset as Dataset,
    )
    from nncf_core.errors import (
        BufferFullError as BufferFullError,
    )
    from nncf_core.errors import (
        InstallationError as InstallationError,
    )
    from nncf_core.errors import (
        InternalError as InternalError,
    )
    from nncf_core.errors import (
        InvalidCollectorTypeError as InvalidCollectorTypeError,
    )
    from nncf_core.errors import (
        InvalidGroupSizeError as InvalidGroupSizeError,
    )
    from nncf_core.errors import (
        InvalidPathError as InvalidPathError,
    )
    from nncf_core.errors import (
        InvalidQuantizerGroupError as InvalidQuantizerGroupError,
    )
    from nncf_core.errors import (
        ModuleNotFoundError as ModuleNotFoundError,
    )
    from nncf_core.errors import (
        NNCFError as NNCFError,
    )
    from nncf_core.errors import (
        ParameterNotSupportedError as ParameterNotSupportedError,
    )
    from nncf_core.errors import (
        PluginError as PluginError,
    )
    from nncf_core.errors import (
        StatisticsCacheError as StatisticsCacheError,
    )
    from nncf_core.errors import (
        UnknownDatasetError as UnknownDatasetError,
    )
    from nncf_core.errors import (
        UnsupportedBackendError as UnsupportedBackendError,
    )
    from nncf_core.errors import (
        UnsupportedDatasetError as UnsupportedDatasetError,
    )
    from nncf_core.errors import (
        UnsupportedModelError as UnsupportedModelError,
    )
    from nncf_core.errors import (
        UnsupportedVersionError as UnsupportedVersionError,
    )
    from nncf_core.errors import (
        ValidationError as ValidationError,
    )
    from nncf_core.log import (
        disable_logging as disable_logging,
    )
    from nncf_core.log import (
        nncf_logger as nncf_logger,
    )
    from nncf_core.log import (
        set_log_level as set_log_level,
    )
    from nncf_core.parameters import (
        BackupMode as BackupMode,
    )
    from nncf_core.parameters import (
        CompressionFormat as CompressionFormat,
    )
    from nncf_core.parameters import (
        CompressWeightsMode as CompressWeightsMode,
    )
    from nncf_core.parameters import (
        DropType as DropType,
    )
    from nncf_core.parameters import (
        GroupSizeFallbackMode as GroupSizeFallbackMode,
    )
    from nncf_core.parameters import (
        ModelType as ModelType,
    )
    from nncf_core.parameters import (
        OverflowFix as OverflowFix,
    )
    from nncf_core.parameters import (
        PruneMode as PruneMode,
    )
    from nncf_core.parameters import (
        QuantizationMode as QuantizationMode,
    )
    from nncf_core.parameters import (
        QuantizationPreset as QuantizationPreset,
    )
    from nncf_core.parameters import (
        SensitivityMetric as SensitivityMetric,
    )
    from nncf_core.parameters import (
        StripFormat as StripFormat,
    )
    from nncf_core.parameters import (
        TargetDevice as TargetDevice,
    )
    from nncf_core.scopes import (
        IgnoredScope as IgnoredScope,
    )
    from nncf_core.scopes import (
        Subgraph as Subgraph,
    )
    from nncf_core.training.pruning import (
        batch_norm_adaptation as batch_norm_adaptation,
    )
    from nncf_core.training.pruning import (
        prune as prune,
    )
    from nncf_core.training.pruning import (
        pruning_statistic as pruning_statistic,
    )

_NAMES = {
    "build_graph": "nncf_core.api",
    "compress_weights": "nncf_core.api",
    "quantize": "nncf_core.api",
    "quantize_with_accuracy_control": "nncf_core.api",
    "strip": "nncf_core.api",
    "NNCFConfig": "nncf_core.config.nncf_config",
    "Dataset": "nncf_core.dataset",
    "BackupMode": "nncf_core.parameters",
    "CompressionFormat": "nncf_core.parameters",
    "CompressWeightsMode": "nncf_core.parameters",
    "DropType": "nncf_core.parameters",
    "GroupSizeFallbackMode": "nncf_core.parameters",
    "ModelType": "nncf_core.parameters",
    "OverflowFix": "nncf_core.parameters",
    "PruneMode": "nncf_core.parameters",
    "QuantizationMode": "nncf_core.parameters",
    "QuantizationPreset": "nncf_core.parameters",
    "SensitivityMetric": "nncf_core.parameters",
    "StripFormat": "nncf_core.parameters",
    "TargetDevice": "nncf_core.parameters",
    "IgnoredScope": "nncf_core.scopes",
    "Subgraph": "nncf_core.scopes",
    "AdvancedAccuracyRestorerParameters": "nncf_core.advanced",
    "AdvancedAWQParameters": "nncf_core.advanced",
    "AdvancedBiasCorrectionParameters": "nncf_core.advanced",
    "AdvancedCompressionParameters": "nncf_core.advanced",
    "AdvancedGPTQParameters": "nncf_core.advanced",
    "AdvancedLoraCorrectionParameters": "nncf_core.advanced",
    "AdvancedQuantizationParameters": "nncf_core.advanced",
    "AdvancedScaleEstimationParameters": "nncf_core.advanced",
    "AdvancedSmoothQuantParameters": "nncf_core.advanced",
    "BufferFullError": "nncf_core.errors",
    "InstallationError": "nncf_core.errors",
    "InternalError": "nncf_core.errors",
    "InvalidCollectorTypeError": "nncf_core.errors",
    "InvalidGroupSizeError": "nncf_core.errors",
    "InvalidPathError": "nncf_core.errors",
    "InvalidQuantizerGroupError": "nncf_core.errors",
    "ModuleNotFoundError": "nncf_core.errors",
    "NNCFError": "nncf_core.errors",
    "ParameterNotSupportedError": "nncf_core.errors",
    "PluginError": "nncf_core.errors",
    "StatisticsCacheError": "nncf_core.errors",
    "UnknownDatasetError": "nncf_core.errors",
    "UnsupportedBackendError": "nncf_core.errors",
    "UnsupportedDatasetError": "nncf_core.errors",
    "UnsupportedModelError": "nncf_core.errors",
    "UnsupportedVersionError": "nncf_core.errors",
    "ValidationError": "nncf_core.errors",
    "disable_logging": "nncf_core.log",
    "nncf_logger": "nncf_core.log",
    "set_log_level": "nncf_core.log",
    "batch_norm_adaptation": "nncf_core.training.pruning",
    "prune": "nncf_core.training.pruning",
    "pruning_statistic": "nncf_core.training.pruning",
}
_SUBMODULES = (
    "api",
    "common",
    "config",
    "data",
    "errors",
    "experimental",
    "parameters",
    "pruning",
    "quantization",
    "scopes",
)
_PLUGINS = ("onnx", "openvino", "torch")

__all__ = ["__version__", *_NAMES]

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(__name__, _NAMES, _SUBMODULES, _PLUGINS)
