"""A first look at data and a JSON schema, which is enough for nearly every config.

It knows the keywords that need a line each, and says yes or "not known". Whatever it does not know is for a validator
of the whole of JSON schema, which takes longer to import than all other modules of the core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

_SILENT = frozenset({"$schema", "title", "description", "default", "examples"})


def conforms(data: Any, schema: Any) -> bool:
    """Whether data surely fits a schema (draft-07, but that NaN and infinity are no numbers).

    :return: ``False`` where it does not, and where this cannot be said here.
    """
    if not isinstance(schema, dict):
        return schema is True
    return all(
        keyword in _SILENT or (keyword in _KEYWORDS and _KEYWORDS[keyword](data, value, schema))
        for keyword, value in schema.items()
    )


def _is_number(data: Any) -> bool:
    return type(data) in (int, float) and math.isfinite(data)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda data: isinstance(data, dict),
    "array": lambda data: isinstance(data, list),
    "string": lambda data: isinstance(data, str),
    "boolean": lambda data: isinstance(data, bool),
    "number": _is_number,
    "integer": lambda data: type(data) is int,
    "null": lambda data: data is None,
}


def _has_type(data: Any, wanted: Any, _: Any) -> bool:
    names = [wanted] if isinstance(wanted, str) else wanted
    return any(name in _TYPES and _TYPES[name](data) for name in names)


def _is_one_of(data: Any, allowed: Any, _: Any) -> bool:
    # of one type: 1 is neither True nor "1"
    return isinstance(data, (str, int)) and any(type(value) is type(data) and value == data for value in allowed)


def _properties_conform(data: Any, properties: Any, _: Any) -> bool:
    return isinstance(data, dict) and all(conforms(data[key], properties[key]) for key in properties if key in data)


def _others_conform(data: Any, allowed: Any, schema: Any) -> bool:
    if not isinstance(data, dict) or "patternProperties" in schema:
        return False
    return all(conforms(value, allowed) for key, value in data.items() if key not in schema.get("properties", {}))


_KEYWORDS: Mapping[str, Callable[[Any, Any, Any], bool]] = {
    "type": _has_type,
    "enum": _is_one_of,
    "const": lambda data, value, _: _is_one_of(data, [value], _),
    "minimum": lambda data, limit, _: _is_number(data) and data >= limit,
    "maximum": lambda data, limit, _: _is_number(data) and data <= limit,
    "exclusiveMinimum": lambda data, limit, _: _is_number(data) and data > limit,
    "exclusiveMaximum": lambda data, limit, _: _is_number(data) and data < limit,
    "minLength": lambda data, limit, _: isinstance(data, str) and len(data) >= limit,
    "properties": _properties_conform,
    "additionalProperties": _others_conform,
    "required": lambda data, names, _: isinstance(data, dict) and all(name in data for name in names),
    "items": lambda data, item, _: isinstance(data, list) and all(conforms(value, item) for value in data),
}
