"""Validators of the fields of public parameter classes."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from numbers import Integral, Real
from typing import Any

from attrs import Attribute

from nncf_core.errors import ValidationError
from nncf_core.parameters import StrEnum


def positive(_: object, attribute: Attribute[Any], value: object) -> None:
    """The field holds an integer above zero.

    :raises ValidationError: otherwise.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) <= 0:
        raise ValidationError(f"{attribute.name} is {value!r}; it must be a positive integer.")


def not_negative(_: object, attribute: Attribute[Any], value: object) -> None:
    """The field holds a number of at least zero, or ``None``, where that is the default.

    :raises ValidationError: otherwise.
    """
    if value is None and attribute.default is None:
        return
    if not isinstance(value, Real) or isinstance(value, bool) or isnan(value) or value < 0:
        raise ValidationError(f"{attribute.name} is {value!r}; it must be a number of at least 0.")


def natural(_: object, attribute: Attribute[Any], value: object) -> None:
    """The field holds an integer of at least zero.

    :raises ValidationError: otherwise.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 0:
        raise ValidationError(f"{attribute.name} is {value!r}; it must be an integer of at least 0.")


def member_of(kind: type[StrEnum]) -> Callable[[object, Attribute[Any], Any], None]:
    """The field holds a member of an enumeration or its value; or ``None``, where that is the default.

    The validator raises ValidationError otherwise.
    """
    allowed = [member.value for member in kind]

    def check(_: object, attribute: Attribute[Any], value: Any) -> None:
        if value not in allowed and not (value is None and attribute.default is None):
            raise ValidationError(
                f"{attribute.name} is {value!r}; it must be one of {', '.join(map(repr, allowed))} ({kind.__name__})."
            )

    return check


def instance_of(kind: type) -> Callable[[object, Attribute[Any], Any], None]:
    """The field holds an instance of a class.

    The validator raises ValidationError otherwise.
    """

    def check(_: object, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            raise ValidationError(f"{attribute.name} is {value!r}; it must be of the type {kind.__name__}.")

    return check
