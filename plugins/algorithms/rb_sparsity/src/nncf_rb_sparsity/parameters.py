"""Parameters of RB sparsity: what a config may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from nncf_core.training.sparsity_schedules import SparsitySchedule, schedule_properties

SCHEDULE = "exponential"
"""The schedule where none is given."""


@frozen
class RBSettings:
    """The config section.

    :param sparsity_init: share of zeros to begin with.
    :param params: of the schedule.
    :param compression_lr_multiplier: gradients of masks' parameters are multiplied by it.
    """

    sparsity_init: float = 0.0
    params: SparsitySchedule = field(factory=SparsitySchedule)
    compression_lr_multiplier: float | None = None

    def __attrs_post_init__(self) -> None:
        self.params.check_initial(self.sparsity_init)


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Masks of weights that are trained, while a loss leads to a share of zeros.",
    "properties": {
        "sparsity_init": {
            "description": "Share of zeros to begin with.",
            "type": "number",
            "minimum": 0,
            "exclusiveMaximum": 1,
            "default": 0.0,
        },
        "params": {
            "description": "The schedule.",
            "type": "object",
            "properties": schedule_properties(SCHEDULE, ("polynomial", "exponential", "adaptive", "multistep")),
            "additionalProperties": False,
        },
        "compression_lr_multiplier": {
            "description": "Gradients of masks' parameters are multiplied by it.",
            "type": "number",
            "minimum": 0,
        },
    },
}
