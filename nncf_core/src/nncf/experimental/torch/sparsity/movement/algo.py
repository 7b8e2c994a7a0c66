"""The controller of movement sparsity; it needs nncf-movement-sparsity."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(__name__, "nncf_movement_sparsity.controller", "nncf-movement-sparsity")
