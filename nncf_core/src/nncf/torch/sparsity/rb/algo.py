"""The controller of RB sparsity; it needs nncf-rb-sparsity."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(__name__, "nncf_rb_sparsity.controller", "nncf-rb-sparsity")
