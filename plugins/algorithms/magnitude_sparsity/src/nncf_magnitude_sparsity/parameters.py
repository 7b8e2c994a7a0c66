"""Parameters of magnitude sparsity: what a config may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from nncf_core.training.sparsity import INITIALIZER_SCHEMA, Initializer
from nncf_core.training.sparsity_schedules import SparsitySchedule, schedule_properties

SCHEDULE = "polynomial"
"""The schedule where none is given."""


@frozen
class MagnitudeSchedule(SparsitySchedule):
    """Parameters of the schedule, and of importance.

    :param weight_importance: ``abs``: the magnitude; ``normed_abs``: the magnitude over the norm of the whole weight,
        so that weights of different sizes can be compared.
    """

    weight_importance: str = "normed_abs"


@frozen
class MagnitudeSettings:
    """The config section.

    :param sparsity_init: share of zeros to begin with.
    :param initializer: what is initialised at the beginning.
    :param params: of schedule and importance.
    """

    sparsity_init: float = 0.0
    initializer: Initializer = field(factory=Initializer)
    params: MagnitudeSchedule = field(factory=MagnitudeSchedule)

    def __attrs_post_init__(self) -> None:
        self.params.check_initial(self.sparsity_init)


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Zeros in place of the weights of the smallest magnitude.",
    "properties": {
        "sparsity_init": {
            "description": "Share of zeros to begin with.",
            "type": "number",
            "minimum": 0,
            "exclusiveMaximum": 1,
            "default": 0.0,
        },
        "initializer": INITIALIZER_SCHEMA,
        "params": {
            "description": "Schedule and importance.",
            "type": "object",
            "properties": {
                **schedule_properties(SCHEDULE, ("polynomial", "exponential", "multistep")),
                "weight_importance": {
                    "description": "abs: the magnitude; normed_abs: over the norm of the whole weight.",
                    "enum": ["abs", "normed_abs"],
                    "default": "normed_abs",
                },
            },
            "additionalProperties": False,
        },
    },
}
