"""What the OpenVINO backend offers beyond models; it needs nncf-openvino."""

from typing import TYPE_CHECKING

from nncf_core.lazy import plugin_module

if TYPE_CHECKING:
    from nncf.openvino import quantization as quantization

__getattr__, __dir__ = plugin_module(__name__, "nncf_openvino", "nncf-openvino", submodules=("quantization",))
