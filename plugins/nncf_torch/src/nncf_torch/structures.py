"""What is attached to a config besides its JSON: loaders and functions that initialisation calls.

Names are those of NNCF's ``nncf.torch.structures``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


class QuantizationPrecisionInitArgs:
    """What the choice of precisions needs: gradients of a loss on some data."""

    ID: ClassVar[str] = "quantization_precision_init_args"

    def __init__(
        self,
        criterion_fn: Callable[[Any, Any, Any], Any],
        criterion: Any,
        data_loader: Any,
        device: str | None = None,
    ) -> None:
        self.criterion_fn, self.criterion = criterion_fn, criterion
        self.data_loader, self.device = data_loader, device

    @classmethod
    def get_id(cls) -> str:
        """Name of the structure."""
        return cls.ID


class AutoQPrecisionInitArgs:
    """What the search for precisions by evaluation needs."""

    ID: ClassVar[str] = "autoq_precision_init_args"

    def __init__(self, data_loader: Any, eval_fn: Callable[[Any, Any], float], nncf_config: Any) -> None:
        self.data_loader, self.eval_fn, self.config = data_loader, eval_fn, nncf_config

    @classmethod
    def get_id(cls) -> str:
        """Name of the structure."""
        return cls.ID


class LeGRInitArgs:
    """What the search for a ranking of filters needs."""

    ID: ClassVar[str] = "legr_init_args"

    def __init__(
        self,
        train_loader: Any,
        train_fn: Callable[..., Any],
        val_loader: Any,
        val_fn: Callable[..., Any],
        train_optimizer: Any,
        nncf_config: Any,
    ) -> None:
        self.train_loader, self.val_loader = train_loader, val_loader
        self.train_steps_fn, self.val_fn = train_fn, val_fn
        self.train_optimizer, self.config = train_optimizer, nncf_config

    @classmethod
    def get_id(cls) -> str:
        """Name of the structure."""
        return cls.ID


class DistributedCallbacksArgs:
    """How the training script wraps a model for several processes, and takes it out again."""

    ID: ClassVar[str] = "distributed_callbacks_args"

    def __init__(self, wrapping_callback: Callable[[Any], Any], unwrapping_callback: Callable[[Any], Any]) -> None:
        self.wrapping_callback, self.unwrapping_callback = wrapping_callback, unwrapping_callback

    @classmethod
    def get_id(cls) -> str:
        """Name of the structure."""
        return cls.ID


class ExecutionParameters:
    """Where a model runs."""

    def __init__(self, cpu_only: bool, current_gpu: int | None) -> None:
        self.cpu_only, self.current_gpu = cpu_only, current_gpu
