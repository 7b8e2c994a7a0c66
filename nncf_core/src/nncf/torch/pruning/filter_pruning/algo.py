"""The controller of filter pruning; it needs nncf-filter-pruning."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(__name__, "nncf_filter_pruning.controller", "nncf-filter-pruning")
