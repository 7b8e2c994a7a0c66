"""Options of the OpenVINO backend."""

from nncf.openvino.quantization import backend_parameters

__all__ = ["backend_parameters"]
