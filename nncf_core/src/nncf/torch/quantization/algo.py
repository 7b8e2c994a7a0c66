"""The controller of quantization in a training; it needs nncf-quantization-aware-training."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(
    __name__, "nncf_quantization_aware_training.controller", "nncf-quantization-aware-training"
)
