"""Plain data (JSON) to attrs classes and back, at the edges only."""

from __future__ import annotations

import operator
from functools import cache, partial
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
    # by identity: a hook for str would also take enumerations, which are strings
    for kind in (str, bool, int):
        converter.register_structure_hook_func(partial(operator.is_, kind), _strict)
    converter.register_structure_hook_func(
        partial(operator.is_, float), lambda value, _: float(_strict(value, (int, float)))
    )
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


def _strict(value: Any, kind: Any) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"expected {' or '.join(k.__name__ for k in kinds)}, got {value!r}")
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
