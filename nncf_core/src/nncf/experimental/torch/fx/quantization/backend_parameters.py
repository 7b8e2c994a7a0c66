"""Keys of ``backend_params`` for exported graph modules."""


class FXBackendParameters:
    """Keys of ``backend_params``."""

    COMPRESS_WEIGHTS = "compress_weights"
    """Whether quantized weights are stored in low-bit constants; default true."""
