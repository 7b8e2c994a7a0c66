"""The controller of magnitude sparsity; it needs nncf-magnitude-sparsity."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(__name__, "nncf_magnitude_sparsity.controller", "nncf-magnitude-sparsity")
