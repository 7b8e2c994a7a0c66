"""attrs classes that :mod:`dataclasses` knows, too: scripts call ``dataclasses.replace`` on parameters."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias, TypeVar

import attrs

_T = TypeVar("_T")
_Known: TypeAlias = dict[str, "dataclasses.Field[Any]"]


class _Fields:
    """``__dataclass_fields__`` of a class, made when they are first asked for."""

    def __get__(self, instance: object, owner: type) -> _Known:
        made = dataclasses.make_dataclass("_", [(a.name, a.type or Any, _field(a)) for a in attrs.fields(owner)])
        fields: _Known = made.__dict__["__dataclass_fields__"]
        type.__setattr__(owner, "__dataclass_fields__", fields)
        return fields


def _field(attribute: attrs.Attribute[Any]) -> Any:
    default = attribute.default
    factory = getattr(default, "factory", None)
    if factory is not None:
        return dataclasses.field(default_factory=factory, init=attribute.init)
    return dataclasses.field(default=dataclasses.MISSING if default is attrs.NOTHING else default, init=attribute.init)


def dataclass_like(cls: type[_T]) -> type[_T]:
    """Let :func:`dataclasses.replace`, ``asdict``, ``astuple``, ``fields`` and ``is_dataclass`` take an attrs class."""
    setattr(cls, "__dataclass_fields__", _Fields())  # noqa: B010 - type checkers know no such attribute
    return cls
