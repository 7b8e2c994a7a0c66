"""Where an edit may take place, as scripts told it."""

from enum import IntEnum
from typing import TYPE_CHECKING

from nncf_core.lazy import left_out

__all__ = ["TargetType"]


class TargetType(IntEnum):
    """Places at a node; here edits are made at a :class:`nncf_core.transformations.TargetPoint`."""

    LAYER = 0
    PRE_LAYER_OPERATION = 3
    POST_LAYER_OPERATION = 4
    OPERATION_WITH_WEIGHTS = 5
    OPERATOR_PRE_HOOK = 6
    OPERATOR_POST_HOOK = 7


if not TYPE_CHECKING:
    __getattr__ = left_out(
        __name__, "edits are made by algorithms, which are plugins, in the words of nncf_core.transformations"
    )
