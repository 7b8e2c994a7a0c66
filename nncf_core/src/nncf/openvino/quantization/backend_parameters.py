"""Keys of ``backend_params`` for OpenVINO models."""


class BackendParameters:
    """Keys of ``backend_params``."""

    COMPRESS_WEIGHTS = "compress_weights"
    """Whether quantized weights are stored in low-bit constants; default true."""

    STAT_REQUESTS_NUMBER = "stat_requests_number"
    """Taken so that scripts run: samples run side by side on all cores without it."""

    EVAL_REQUESTS_NUMBER = "eval_requests_number"
    """The same for validation."""
