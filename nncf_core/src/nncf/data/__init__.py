"""Datasets."""

from typing import TYPE_CHECKING

from nncf_core.dataset import (
    Dataset,
)
from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf.data import dataset as dataset
    from nncf_core.text_data import generate_text_data as generate_text_data

__all__ = [
    "Dataset",
    "generate_text_data",
]

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(__name__, {"generate_text_data": "nncf_core.text_data"}, submodules=("dataset",))
