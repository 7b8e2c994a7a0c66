"""Data of a training script."""
