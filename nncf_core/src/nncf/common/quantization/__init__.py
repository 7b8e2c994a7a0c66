"""What quantization has in common."""
