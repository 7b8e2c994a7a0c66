"""Names of the attributes that modules hold parts of weights under, beside what the user's own code holds there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from nncf_core.errors import ValidationError

SURROUNDING = "_surrounding"
"""Attribute of a module: what surrounds its calls."""


def part_name(weight: str, part: str, suffix: str = "") -> str:
    """The attribute that holds a tensor of a compressed weight."""
    return f"{weight}_{part}{suffix}"


def free_suffix(is_free: Callable[[str], bool]) -> str:
    """The first of ``""``, ``"_1"``, ``"_2"`` and so on that makes all names free."""
    number, suffix = 0, ""
    while not is_free(suffix):
        number += 1
        suffix = f"_{number}"
    return suffix


def check_free(module: nn.Module, weight: str, names: Iterable[str]) -> None:
    """Refuse to put tensors where a module has attributes of its own.

    :param weight: whose tensors they are.
    :raises ValidationError: naming the first of them.
    """
    taken = next((name for name in names if hasattr(module, name)), None)
    if taken is not None:
        raise ValidationError(
            f"A {type(module).__name__} has an attribute {taken!r} of its own, where a part of {weight!r} would be "
            "stored: rename the attribute, or leave the layer out with ignored_scope."
        )
