"""When quantizers begin to act, and how learning rate and weight decay fall meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nncf_core.training.control import CompressionScheduler, CompressionStage
from nncf_quantization_aware_training.parameters import StagedParams

_POWER = 0.9
"""Of the polynomial (Chen et al. 2016, https://arxiv.org/abs/1606.00915, section 4.1.1)."""


class StagedQuantizationScheduler(CompressionScheduler):
    """Lets quantizers of activations and of weights begin in epochs of their own.

    The optimizer is the training script's, and so it is the script that sets :attr:`learning_rate` and
    :attr:`weight_decay` where it wants these to fall.

    :param params: ``None``: all act from the beginning.
    :param enable: lets quantizers act, or not: those of weights where the first argument is true, otherwise those of
        activations.
    """

    def __init__(self, params: StagedParams | None, enable: Callable[[bool, bool], None]) -> None:
        super().__init__()
        self.params = params
        self._enable = enable
        self._set()

    def epoch_step(self, next_epoch: int | None = None) -> None:
        """An epoch begins; quantizers whose it is begin to act."""
        super().epoch_step(next_epoch)
        self._set()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        super().load_state(state)
        self._set()

    def is_active(self, *, weights: bool) -> bool:
        """Whether quantizers of weights, or of activations, act in the current epoch."""
        if self.params is None:
            return True
        first = self.params.weights_quant_start_epoch if weights else self.params.activations_quant_start_epoch
        return max(self.current_epoch, 0) >= first

    @property
    def stage(self) -> CompressionStage:
        """How many of both kinds act."""
        active = sum(self.is_active(weights=weights) for weights in (True, False))
        return CompressionStage(active)

    @property
    def learning_rate(self) -> float:
        """``base_lr``, and from ``lr_poly_drop_start_epoch`` on ``base_lr · (1 - t)^0.9`` with the share ``t`` of
        ``lr_poly_drop_duration_epochs`` that has passed."""
        params = self.params or StagedParams()
        start = params.lr_poly_drop_start_epoch
        if start is None:
            return params.base_lr
        passed = (max(self.current_epoch, 0) - start) / params.lr_poly_drop_duration_epochs
        return float(params.base_lr * (1 - min(max(passed, 0.0), 1.0)) ** _POWER)

    @property
    def weight_decay(self) -> float:
        """``base_wd``, and none from ``disable_wd_start_epoch`` on."""
        params = self.params or StagedParams()
        end = params.disable_wd_start_epoch
        return 0.0 if end is not None and max(self.current_epoch, 0) >= end else params.base_wd

    def _set(self) -> None:
        for weights in (True, False):
            self._enable(weights, self.is_active(weights=weights))
