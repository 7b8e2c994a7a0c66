"""Options of the ONNX backend."""

from nncf.onnx.quantization import backend_parameters

__all__ = ["backend_parameters"]
