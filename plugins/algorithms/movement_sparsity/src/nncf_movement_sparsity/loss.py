"""The term of the loss that draws scores down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from nncf_core.numerics.arrays import space_of
from nncf_core.training.contracts import MaskHandle
from nncf_core.training.control import CompressionLoss


class ImportanceLoss(CompressionLoss):
    """``factor · mean(sigmoid(score))``, the mean over all elements of weights (Sanh et al. 2020, section 4).

    :ivar factor: set by the scheduler; 0: none.
    """

    def __init__(self, masks: Sequence[MaskHandle]) -> None:
        self._masks, self.factor = tuple(masks), 0.0

    def calculate(self, *args: Any, **kwargs: Any) -> Any:
        """The term."""
        if self.factor == 0 or not self._masks:
            return 0.0
        total, elements = 0.0, 0
        for mask in self._masks:
            scores, size = mask.parameters(), prod(mask.weight().shape)
            xp = space_of(scores).xp
            total = total + xp.mean(1 / (1 + xp.exp(-scores))) * size
            elements += size
        return total / elements * self.factor

    def get_state(self) -> dict[str, Any]:
        """The factor."""
        return {"factor": self.factor}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        super().load_state(state)
        self.factor = state["factor"]
