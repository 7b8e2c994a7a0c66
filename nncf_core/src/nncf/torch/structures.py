"""What is attached to a config besides its JSON, for PyTorch; it needs nncf-torch."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(__name__, "nncf_torch.structures", "nncf-torch")
