"""Data of a training script, registered with a config; it needs nncf-torch."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(__name__, "nncf_torch.initialization", "nncf-torch")
