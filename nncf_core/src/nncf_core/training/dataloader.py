"""A loader of initialisation data, whatever the framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any


class NNCFDataLoader(ABC):
    """Gives batches."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Samples in a batch."""

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """Batches."""
