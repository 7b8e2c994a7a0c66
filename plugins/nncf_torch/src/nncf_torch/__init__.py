"""PyTorch backend for nncf-core. It offers what goes beyond models as ``nncf.torch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf_core.api import strip as strip
    from nncf_torch.adapters import active_ranks as active_ranks
    from nncf_torch.adapters import set_active_rank as set_active_rank
    from nncf_torch.configuration import get_config as get_config
    from nncf_torch.configuration import load_from_config as load_from_config
    from nncf_torch.onnx_export import export_onnx as export_onnx

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_module(
    __name__,
    {
        "active_ranks": "nncf_torch.adapters",
        "export_onnx": "nncf_torch.onnx_export",
        "get_config": "nncf_torch.configuration",
        "load_from_config": "nncf_torch.configuration",
        "set_active_rank": "nncf_torch.adapters",
        "strip": "nncf_core.api",
    },
)
