"""What the ONNX backend offers beyond models; it needs nncf-onnx."""

from typing import TYPE_CHECKING

from nncf_core.lazy import plugin_module

if TYPE_CHECKING:
    from nncf.onnx import quantization as quantization

__getattr__, __dir__ = plugin_module(__name__, "nncf_onnx", "nncf-onnx", submodules=("quantization",))
