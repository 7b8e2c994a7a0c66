"""Plain data (JSON) to attrs classes and back, at the edges only."""

from __future__ import annotations

from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nncf_core.advanced import FP8QuantizationParameters, QuantizationParameters
from nncf_core.errors import ValidationError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


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
    either = QuantizationParameters | FP8QuantizationParameters | None
    converter.register_structure_hook(either, lambda value, _: _quantizer(converter, value))
    converter.register_unstructure_hook_func(
        lambda cls: isinstance(cls, type) and issubclass(cls, np.ndarray), lambda array: array.tolist()
    )
    converter.register_unstructure_hook_func(
        lambda cls: isinstance(cls, type) and issubclass(cls, np.generic), lambda scalar: scalar.item()
    )
    converter.register_unstructure_hook_func(lambda cls: isinstance(cls, type) and issubclass(cls, Path), str)
    return converter


def _quantizer(converter: Converter, value: Any) -> Any:
    if value is None:
        return None
    cls = FP8QuantizationParameters if "destination_type" in value else QuantizationParameters
    return converter.structure(value, cls)


def _strict(value: Any, cls: type) -> Any:
    if issubclass(cls, Enum):
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
        raise ValidationError("; ".join(problems) + ".") from None
    except (TypeError, ValueError) as error:
        raise ValidationError(f"{where or cls.__name__}: {error}") from None


def _describe(error: BaseException, cls: type | None) -> str:
    from cattrs import ForbiddenExtraKeysError

    if isinstance(error, ForbiddenExtraKeysError):
        import attrs

        known = sorted(f.name for f in attrs.fields(error.cl)) if attrs.has(error.cl) else []
        return f"unknown key {', '.join(sorted(error.extra_fields))} (known: {', '.join(known)})"
    if isinstance(error, KeyError):
        return f"missing key {error}"
    return str(error)


def unstructure(value: Any) -> Any:
    """Plain data from attrs classes, enumerations and arrays: what ``json.dumps`` accepts."""
    return _converter().unstructure(value)
