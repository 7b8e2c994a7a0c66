"""The term of the loss that leads to a share of zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from attrs import frozen

from nncf_core.numerics.arrays import Array
from nncf_core.training.contracts import MaskHandle
from nncf_core.training.control import CompressionLoss

P = 0.05
"""The deviation of the share of kept elements at which the term is 1, where none is given."""


@frozen(eq=False)
class Group:
    """Masks whose elements are counted together.

    :param elements: number of elements of their weights.
    """

    masks: Sequence[MaskHandle]
    elements: int

    def kept(self) -> Array:
        """The share of elements that are kept in evaluation; gradients reach the masks' parameters."""
        return sum(mask.kept() for mask in self.masks) / self.elements


class SparsityLoss(CompressionLoss):
    """``((kept / elements - (1 - target)) / p)²``, the mean over groups of masks.

    What is kept is counted without noise; gradients go straight through.

    :param groups: one of all masks, or one for each.
    :param p: the deviation of the share of kept elements at which the term is 1.
    :ivar target: share of zeros.
    :ivar current: share of zeros when the term was last computed.
    """

    def __init__(self, groups: Sequence[Group], target: float, p: float = P) -> None:
        self._groups, self.target, self._p = tuple(groups), target, p
        self.current = 0.0
        self.enabled = True

    def calculate(self, *args: Any, **kwargs: Any) -> Any:
        """The term; 0 once masks are frozen."""
        if not self.enabled or not self._groups:
            return 0.0
        kept = [group.kept() for group in self._groups]
        total = sum(group.elements for group in self._groups)
        shares = zip(kept, self._groups, strict=True)
        self.current = 1 - sum(float(share.detach()) * group.elements for share, group in shares) / total
        return sum(((share - (1 - self.target)) / self._p) ** 2 for share in kept) / len(kept)

    def get_state(self) -> dict[str, Any]:
        """Target, and whether it counts."""
        return {"target": self.target, "enabled": self.enabled}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        super().load_state(state)
        self.target, self.enabled = state["target"], state["enabled"]


def groups_of(masks: Mapping[str, MaskHandle], *, of_all: bool) -> list[Group]:
    """One group of all masks, or one of each."""
    groups = [Group([mask], prod(mask.weight().shape)) for mask in masks.values()]
    if not of_all or not groups:
        return groups
    return [Group(list(masks.values()), sum(group.elements for group in groups))]
