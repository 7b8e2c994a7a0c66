"""The controller of zeros that stay; it needs nncf-const-sparsity."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(__name__, "nncf_const_sparsity.controller", "nncf-const-sparsity")
