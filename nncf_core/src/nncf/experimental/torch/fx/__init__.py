"""Quantization of exported graph modules; it needs nncf-torch."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(__name__, "nncf_torch.pt2e", "nncf-torch", submodules=("quantization",))
