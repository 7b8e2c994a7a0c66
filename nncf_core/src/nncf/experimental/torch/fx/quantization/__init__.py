"""Options for exported graph modules."""

from nncf.experimental.torch.fx.quantization import backend_parameters

__all__ = ["backend_parameters"]
