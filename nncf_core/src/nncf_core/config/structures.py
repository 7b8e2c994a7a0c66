"""Structures that are attached to a config and cannot be written as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol


class ExtraStruct(Protocol):
    """Anything with an identity of its own."""

    @classmethod
    def get_id(cls) -> str:
        """Name under which the structure is found."""


class _WithLoader:
    """Data, and the device to run on."""

    def __init__(self, data_loader: Any, device: str | None = None) -> None:
        self._data_loader = data_loader
        self._device = device

    @property
    def data_loader(self) -> Any:
        """The data."""
        return self._data_loader

    @property
    def device(self) -> str | None:
        """The device, ``None`` for the model's own."""
        return self._device


class QuantizationRangeInitArgs(_WithLoader):
    """Data that quantizers' ranges are initialised with."""

    ID: ClassVar[str] = "quantization_range_init_args"

    @classmethod
    def get_id(cls) -> str:
        """Name of the structure."""
        return cls.ID


class BNAdaptationInitArgs(_WithLoader):
    """Data that batch-norm statistics are adapted with."""

    ID: ClassVar[str] = "bn_adaptation_init_args"

    @classmethod
    def get_id(cls) -> str:
        """Name of the structure."""
        return cls.ID


class ModelEvaluationArgs:
    """A function that evaluates a model."""

    ID: ClassVar[str] = "model_evaluation_args"

    def __init__(self, eval_fn: Callable[..., Any]) -> None:
        self.eval_fn = eval_fn

    @classmethod
    def get_id(cls) -> str:
        """Name of the structure."""
        return cls.ID
