"""ONNX backend for nncf-core."""
