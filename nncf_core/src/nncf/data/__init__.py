"""Datasets."""

from nncf_core.dataset import (
    Dataset,
)

__all__ = [
    "Dataset",
]
