"""Parameters of SmoothQuant: what a config may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from nncf_core.graph import OpKind
from nncf_core.parameters import TargetDevice


@frozen
class SmoothQuantSettings:
    """The config section.

    :param alpha_matmul: how much of a range moves from the inputs of matrix products into their weights, from 0 to 1;
        negative: none; ``None``: what an estimate of the error says.
    :param alpha_convolution: the same for convolutions.
    :param subset_size: number of samples of the dataset that ranges are found on.
    :param target_device: where the model will run.
    """

    alpha_matmul: float | None = None
    alpha_convolution: float | None = None
    subset_size: int = 32
    target_device: TargetDevice = TargetDevice.ANY

    def alpha(self, kind: OpKind) -> float | None:
        """The strength for the operators of a kind."""
        return self.alpha_convolution if kind is OpKind.CONV else self.alpha_matmul


def _alpha(of: str) -> Mapping[str, Any]:
    return {
        "description": f"How much of a range moves from the inputs of {of} into their weights; negative: none; "
        "null: what an estimate of the error says.",
        "type": ["number", "null"],
        "maximum": 1,
        "default": None,
    }


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Even ranges of channels before activations are quantized.",
    "properties": {
        "alpha_matmul": _alpha("matrix products"),
        "alpha_convolution": _alpha("convolutions"),
        "subset_size": {
            "description": "Number of samples of the dataset that ranges are found on.",
            "type": "integer",
            "minimum": 1,
            "default": 32,
        },
        "target_device": {"enum": [str(device) for device in TargetDevice], "default": "ANY"},
    },
}
