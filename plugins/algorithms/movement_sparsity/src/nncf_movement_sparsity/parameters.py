"""Parameters of movement sparsity: what a config may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from nncf_core.errors import ValidationError


@frozen
class MovementSchedule:
    """When zeros come, and how strongly scores are drawn down.

    :param warmup_start_epoch: epoch at whose beginning the threshold begins to rise.
    :param warmup_end_epoch: epoch at whose beginning it has its final value, and masks stay as they are.
    :param importance_regularization_factor: factor of the loss in the end of the warm-up.
    :param enable_structured_masking: whether heads and channels are then kept or removed as a whole.
    :param power: exponent of the polynomial by which threshold and factor go.
    :param init_importance_threshold: the threshold to begin with; ``None``: such that a thousandth of the elements does
        not exceed it.
    :param final_importance_threshold: the threshold in the end.
    :param steps_per_epoch: steps in an epoch; ``None``: as many as the epoch before had.
    """

    warmup_start_epoch: int
    warmup_end_epoch: int
    importance_regularization_factor: float
    enable_structured_masking: bool = True
    power: float = 3.0
    init_importance_threshold: float | None = None
    final_importance_threshold: float = 0.0
    steps_per_epoch: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.warmup_end_epoch <= self.warmup_start_epoch:
            raise ValidationError(
                f"movement_sparsity: warmup_end_epoch is {self.warmup_end_epoch}; it must be after warmup_start_epoch, "
                f"{self.warmup_start_epoch}."
            )
        begin = self.init_importance_threshold
        if begin is not None and begin >= self.final_importance_threshold:
            raise ValidationError(
                f"movement_sparsity: init_importance_threshold is {begin}; it must be below "
                f"final_importance_threshold, {self.final_importance_threshold}."
            )


@frozen
class SparseStructure:
    """What one score stands for, in some layers.

    :param mode: ``fine``: an element; ``block``: a block of elements; ``per_dim``: a row or a column.
    :param target_scopes: names of layers, ``{re}`` before regular expressions.
    :param sparse_factors: rows and columns of a block.
    :param axis: of ``per_dim``: the axis along which scores lie; 0 is that of output channels.
    """

    mode: str
    target_scopes: str | list[str]
    sparse_factors: list[int] = field(factory=list)
    axis: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.mode == "block" and (len(self.sparse_factors) != 2 or min(self.sparse_factors) < 1):
            raise ValidationError(
                f"movement_sparsity: sparse_factors is {self.sparse_factors}; blocks need two positive integers."
            )
        if self.mode == "per_dim" and self.axis not in (0, 1):
            raise ValidationError(f"movement_sparsity: axis is {self.axis!r}; per_dim needs 0 or 1.")

    def shape_for(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of scores of a matrix.

        :param shape: ``[outputs, inputs]``.
        :raises ValidationError: when blocks do not divide it.
        """
        if self.mode == "fine":
            return shape
        if self.mode == "per_dim":
            return (shape[0], 1) if self.axis == 0 else (1, shape[1])
        if any(n % factor for n, factor in zip(shape, self.sparse_factors, strict=True)):
            raise ValidationError(
                f"movement_sparsity: blocks of {self.sparse_factors} do not divide {name!r}, which is {list(shape)}."
            )
        return shape[0] // self.sparse_factors[0], shape[1] // self.sparse_factors[1]


@frozen
class MovementSettings:
    """The config section.

    :param params: when zeros come.
    :param sparse_structure_by_scopes: what a score stands for, where it is not an element.
    :param compression_lr_multiplier: gradients of scores are multiplied by it.
    """

    params: MovementSchedule
    sparse_structure_by_scopes: list[SparseStructure] = field(factory=list)
    compression_lr_multiplier: float | None = None


def _number(description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, "type": "number", **more}


_SCOPES = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Weights that move towards zero while a transformer is fine-tuned become zero.",
    "properties": {
        "params": {
            "description": "When zeros come.",
            "type": "object",
            "properties": {
                "warmup_start_epoch": {"description": "Epoch in which zeros begin.", "type": "integer", "minimum": 0},
                "warmup_end_epoch": {"description": "Epoch from which masks stay.", "type": "integer", "minimum": 1},
                "importance_regularization_factor": _number("Factor of the loss that draws scores down.", minimum=0),
                "enable_structured_masking": {
                    "description": "Whether heads and channels are kept or removed as a whole in the end.",
                    "type": "boolean",
                    "default": True,
                },
                "power": _number("Exponent of threshold and factor.", exclusiveMinimum=0, default=3.0),
                "init_importance_threshold": _number("Threshold to begin with."),
                "final_importance_threshold": _number("Threshold in the end.", default=0.0),
                "steps_per_epoch": {"description": "Steps in an epoch.", "type": "integer", "minimum": 1},
            },
            "required": ["warmup_start_epoch", "warmup_end_epoch", "importance_regularization_factor"],
            "additionalProperties": False,
        },
        "sparse_structure_by_scopes": {
            "description": "What a score stands for, where it is not an element.",
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "mode": {"enum": ["fine", "block", "per_dim"]},
                    "sparse_factors": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                    "axis": {"enum": [0, 1]},
                    "target_scopes": _SCOPES,
                },
                "required": ["mode", "target_scopes"],
                "additionalProperties": False,
            },
        },
        "compression_lr_multiplier": _number("Gradients of scores are multiplied by it.", minimum=0),
    },
    "required": ["params"],
}
