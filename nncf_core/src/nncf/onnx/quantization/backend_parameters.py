"""Keys of ``backend_params`` for ONNX models."""


class BackendParameters:
    """Keys of ``backend_params``."""

    EXTERNAL_DATA_DIR = "external_data_dir"
    """Absolute path of the folder that holds the model's external data; default: the working directory."""

    COMPRESS_WEIGHTS = "compress_weights"
    """Whether quantized weights are stored in low-bit constants; default true."""
