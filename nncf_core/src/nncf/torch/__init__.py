"""What the PyTorch backend offers beyond models; it needs nncf-torch."""

from nncf_core.lazy import plugin_module

__getattr__, __dir__ = plugin_module(
    __name__,
    "nncf_torch",
    "nncf-torch",
    (
        "function_hook",
        "initialization",
        "knowledge_distillation",
        "pruning",
        "quantization",
        "sparsity",
        "structures",
    ),
)
