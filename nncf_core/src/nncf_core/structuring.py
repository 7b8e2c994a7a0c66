"""Plain data (JSON) to attrs classes and back, at the edges only."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import numpy as np

from nncf_core.advanced import FP8QuantizationParameters, QuantizationParameters
from nncf_core.errors import ValidationError
from nncf_core.parameters import StrEnum

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")

_QUANTIZER = QuantizationParameters | FP8QuantizationParameters | None


@cache
def _converter() -> Converter:
    # cattrs takes 40 ms to import: only runs that structure pay
    from cattrs import Converter
    from cattrs.strategies import configure_union_passthrough

    converter = Converter(forbid_extra_keys=True)
    # JSON's numbers and strings are checked, never cast: "4" is not 4
    configure_union_passthrough(str | bool | int | float | None, converter)
    for kind in (str, bool, int, float):
        converter.register_structure_hook(kind, _strict)
    converter.register_structure_hook_factory(attrs.has, lambda cls: _object(converter, cls))
    # a predicate: cattrs has a strategy of its own for unions of attrs classes, which hooks by type do not override
    converter.register_structure_hook_func(lambda cls: cls == _QUANTIZER, lambda value, _: _quantizer(converter, value))
    # by class, for members are strings, which cattrs leaves as they are
    converter.register_unstructure_hook(StrEnum, _value)
    converter.register_unstructure_hook_func(
        lambda cls: isinstance(cls, type) and issubclass(cls, np.ndarray), lambda array: array.tolist()
    )
    converter.register_unstructure_hook_func(
        lambda cls: isinstance(cls, type) and issubclass(cls, np.generic), lambda scalar: scalar.item()
    )
    converter.register_unstructure_hook_func(lambda cls: isinstance(cls, type) and issubclass(cls, Path), str)
    return converter


def _value(member: Any) -> Any:
    return member.value if isinstance(member, Enum) else member


def _object(converter: Converter, cls: type) -> Callable[[Any, type], Any]:
    fill: Callable[[Any, type], Any] = converter.gen_structure_attrs_fromdict(cls)

    def structure_object(value: Any, _: type) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected an object with the keys {_keys(cls)}, got {shortened(value)}")
        return fill(value, cls)

    return structure_object


def _quantizer(converter: Converter, value: Any) -> Any:
    if value is None:
        return None
    is_fp8 = isinstance(value, Mapping) and "destination_type" in value
    return converter.structure(value, FP8QuantizationParameters if is_fp8 else QuantizationParameters)


def _keys(cls: type) -> str:
    return ", ".join(sorted(f.name for f in attrs.fields(cls)))


def _strict(value: Any, cls: type) -> Any:
    if issubclass(cls, Enum):
        if value not in [member.value for member in cls]:
            raise ValueError(f"expected one of {', '.join(repr(member.value) for member in cls)}, got {value!r}")
        return cls(value)
    if cls is float and type(value) is int:
        return float(value)
    if type(value) is not cls:
        raise TypeError(f"expected {cls.__name__}, got {value!r}")
    return value


def structure(data: Any, cls: type[T], where: str = "") -> T:
    """An instance of an attrs class from plain data.

    :param where: key path of the data, for messages.
    :raises ValidationError: naming the key path of each bad or unknown key.
    """
    from cattrs import BaseValidationError, transform_error

    try:
        return _converter().structure(data, cls)
    except BaseValidationError as error:
        problems = transform_error(error, path=where or cls.__name__, format_exception=_describe)
        parts = (problem.rpartition(" @ ") for problem in problems)
        raise ValidationError("; ".join(f"{path}: {what.rstrip('.')}" for what, _, path in parts) + ".") from None
    except (TypeError, ValueError) as error:
        raise ValidationError(f"{where or cls.__name__}: {str(error).rstrip('.')}.") from None


def _describe(error: BaseException, cls: type | None) -> str:
    from cattrs import ForbiddenExtraKeysError

    if isinstance(error, ForbiddenExtraKeysError):
        known = _keys(error.cl) if attrs.has(error.cl) else ""
        extra = sorted(error.extra_fields)
        close = [match for key in extra for match in difflib.get_close_matches(key, known.split(", "), n=1)]
        hint = f"did you mean {', '.join(close)}? " if close else ""
        return f"unknown key {', '.join(extra)}; {hint}known: {known}"
    if isinstance(error, KeyError):
        return f"missing key {error}"
    return str(error)


def unstructure(value: Any) -> Any:
    """Plain data from attrs classes, enumerations and arrays: what ``json.dumps`` accepts."""
    return _converter().unstructure(value)
