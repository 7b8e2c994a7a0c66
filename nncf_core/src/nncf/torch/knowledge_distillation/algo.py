"""The controller of knowledge distillation; it needs nncf-knowledge-distillation."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(__name__, "nncf_knowledge_distillation.algorithm", "nncf-knowledge-distillation")
