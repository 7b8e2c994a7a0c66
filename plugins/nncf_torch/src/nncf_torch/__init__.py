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
    from nncf_torch.creating import create_compressed_model as create_compressed_model
    from nncf_torch.initialization import register_default_init_args as register_default_init_args
    from nncf_torch.loading import load_state as load_state
    from nncf_torch.markers import disable_patching as disable_patching
    from nncf_torch.markers import disable_tracing as disable_tracing
    from nncf_torch.markers import force_build_cpu_extensions as force_build_cpu_extensions
    from nncf_torch.markers import force_build_cuda_extensions as force_build_cuda_extensions
    from nncf_torch.markers import forward_nncf_trace as forward_nncf_trace
    from nncf_torch.markers import is_wrapped_model as is_wrapped_model
    from nncf_torch.markers import nncf_model_input as nncf_model_input
    from nncf_torch.markers import nncf_model_output as nncf_model_output
    from nncf_torch.markers import no_nncf_trace as no_nncf_trace
    from nncf_torch.markers import register_module as register_module
    from nncf_torch.markers import register_operator as register_operator
    from nncf_torch.markers import wrap_model as wrap_model

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_module(
    __name__,
    {
        "active_ranks": "nncf_torch.adapters",
        "create_compressed_model": "nncf_torch.creating",
        "disable_patching": "nncf_torch.markers",
        "disable_tracing": "nncf_torch.markers",
        "force_build_cpu_extensions": "nncf_torch.markers",
        "force_build_cuda_extensions": "nncf_torch.markers",
        "forward_nncf_trace": "nncf_torch.markers",
        "get_config": "nncf_torch.configuration",
        "is_wrapped_model": "nncf_torch.markers",
        "load_from_config": "nncf_torch.configuration",
        "load_state": "nncf_torch.loading",
        "nncf_model_input": "nncf_torch.markers",
        "nncf_model_output": "nncf_torch.markers",
        "no_nncf_trace": "nncf_torch.markers",
        "register_default_init_args": "nncf_torch.initialization",
        "register_module": "nncf_torch.markers",
        "register_operator": "nncf_torch.markers",
        "set_active_rank": "nncf_torch.adapters",
        "strip": "nncf_core.api",
        "wrap_model": "nncf_torch.markers",
    },
)
