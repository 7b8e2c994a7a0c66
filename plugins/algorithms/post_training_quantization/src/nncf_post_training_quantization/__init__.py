"""Post-training quantization as a plugin of nncf-core."""
