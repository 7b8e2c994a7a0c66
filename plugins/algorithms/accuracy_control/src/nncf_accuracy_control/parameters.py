"""Parameters of accuracy control: what a config may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen

from nncf_core.advanced import AdvancedAccuracyRestorerParameters
from nncf_core.parameters import DropType, TargetDevice


@frozen
class ControlSettings:
    """The config section.

    :param max_drop: how much the metric may be below that of the original model.
    :param drop_type: whether that is a difference, or a share of the original model's.
    :param subset_size: how many items of the validation dataset groups are ranked on at most.
    :param target_device: where the model will run.
    :param advanced_parameters: see :class:`nncf.AdvancedAccuracyRestorerParameters`.
    """

    max_drop: float = 0.01
    drop_type: DropType = DropType.ABSOLUTE
    subset_size: int = 300
    target_device: TargetDevice = TargetDevice.ANY
    advanced_parameters: AdvancedAccuracyRestorerParameters = Factory(AdvancedAccuracyRestorerParameters)

    def drop(self, original: float, metric: float) -> float:
        """How much a metric is below the original model's, as :attr:`drop_type` says; not below 0."""
        lost = max(original - metric, 0.0)
        if self.drop_type is DropType.ABSOLUTE or lost == 0:
            return lost
        return lost / abs(original) if original else float("inf")

    def allows(self, original: float, metric: float) -> bool:
        """Whether a metric is good enough. 0.91 - 0.90 is a bit more than 0.01 to a computer, but not to users."""
        return self.drop(original, metric) <= self.max_drop + 1e-9


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Which edits of the section before are kept, so that a metric drops by no more than a limit.",
    "properties": {
        "max_drop": {
            "description": "How much the metric may be below that of the original model.",
            "type": "number",
            "minimum": 0,
            "default": 0.01,
        },
        "drop_type": {
            "description": "absolute: a difference; relative: a share of the original model's metric.",
            "enum": [str(kind) for kind in DropType],
            "default": "absolute",
        },
        "subset_size": {
            "description": "How many items of the validation dataset groups are ranked on at most.",
            "type": "integer",
            "minimum": 1,
            "default": 300,
        },
        "target_device": {"enum": [str(device) for device in TargetDevice], "default": "ANY"},
        "advanced_parameters": {"description": "See nncf.AdvancedAccuracyRestorerParameters.", "type": "object"},
    },
}
