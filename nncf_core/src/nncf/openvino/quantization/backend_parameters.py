"""Keys of ``backend_params`` for OpenVINO models."""


class BackendParameters:
    """Keys of ``backend_params``."""

    COMPRESS_WEIGHTS = "compress_weights"
    """Whether quantized weights are stored in low-bit constants; default true."""
