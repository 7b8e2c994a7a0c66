"""Validation with messages that name the key path, the value, and what is allowed.

The alternatives of the schema are told apart before it is applied: an algorithm's section by its
``algorithm``, an accuracy-aware training section by its ``mode``. So an error is that of the section that was
meant, not "not valid under any of the given schemas".
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from nncf_core.catalogue import ALGORITHMS
from nncf_core.config.conformity import conforms
from nncf_core.config.schema import ACCURACY_AWARE, KNOWN_KEYS, SCOPING_KEYS, TOP_LEVEL, section_schema
from nncf_core.errors import ValidationError
from nncf_core.log import nncf_logger
from nncf_core.registry import registry

_SHOWN = 5


def validate(
    config: Mapping[str, Any],
    fragments: Mapping[str, Mapping[str, Any]],
    parameters: Mapping[str, type] = MappingProxyType({}),
) -> None:
    """Check a config.

    :param fragments: schema fragment of each installed algorithm, by its name.
    :param parameters: classes of their parameters, which know of contradictions that a schema cannot tell.
    :raises ValidationError: listing what is wrong, at most five things.
    """
    if not isinstance(config, Mapping):
        raise ValidationError(f"A config is a dict, not a {type(config).__name__}.")
    problems = list(_problems(config, fragments)) or list(_contradictions(config, parameters))
    if problems:
        more = f"\n(and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise ValidationError("The config is not valid. " + "\n".join(problems[:_SHOWN]) + more)


def _problems(config: Mapping[str, Any], fragments: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for key in config:
        # other keys are the user's own, but a slip of the pen must not be lost
        if key in KNOWN_KEYS:
            continue
        close = difflib.get_close_matches(str(key), KNOWN_KEYS, n=1, cutoff=0.85)
        if close:
            yield f"{key}: unknown key; did you mean {close[0]!r}?"
        else:
            nncf_logger.debug("The config's key %r means nothing here; it is kept.", key)
    top = {"type": "object", "properties": dict(TOP_LEVEL)}
    yield from _check(config, top, ())
    if "compression" in config:
        yield from _compression(config["compression"], fragments)
    if "accuracy_aware_training" in config:
        yield from _accuracy_aware(config["accuracy_aware_training"])


def _compression(compression: Any, fragments: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if isinstance(compression, Mapping):
        yield from _section(compression, ("compression",), fragments)
        return
    if not isinstance(compression, list):
        yield f"compression: {_show(compression)} is not allowed; give an object, or a list of objects."
        return
    seen: dict[Any, int] = {}
    for index, section in enumerate(compression):
        path = ("compression", index)
        if not isinstance(section, Mapping):
            yield f"{_path(path)}: {_show(section)} is not allowed; give an object."
            continue
        yield from _section(section, path, fragments)
        name = section.get("algorithm")
        if isinstance(name, str) and name in seen:
            yield f"{_path(path)}.algorithm: {name!r} is given already in compression[{seen[name]}]."
        elif isinstance(name, str):
            seen[name] = index
    yield from _excluded(list(seen))


def _excluded(names: Sequence[str]) -> Iterator[str]:
    """Algorithms that say they cannot be in the same config, each pair once."""
    known, told = registry().algorithms, set[frozenset[str]]()
    for name in names:
        excludes: Mapping[str, str] = getattr(known.get(name), "excludes", {})
        for other in names:
            if other in excludes and other != name and frozenset((name, other)) not in told:
                told.add(frozenset((name, other)))
                yield f"compression: {name!r} and {other!r} cannot be in the same config: {excludes[other]}."


def _section(
    section: Mapping[str, Any], path: Sequence[str | int], fragments: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    where = _path(path)
    installed = ", ".join(fragments) or "none"
    if "algorithm" not in section:
        yield f"{where}: the key 'algorithm' is missing; installed algorithms: {installed}."
        return
    name = section["algorithm"]
    if not isinstance(name, str):
        yield f"{where}.algorithm: {_show(name)} is not allowed; give a name. Installed algorithms: {installed}."
    elif name not in fragments:
        yield f"{where}.algorithm: {_unknown(name, fragments)}"
    else:
        yield from _check(section, section_schema(name, fragments[name]), path)


def _contradictions(config: Mapping[str, Any], parameters: Mapping[str, type]) -> Iterator[str]:
    """What the schema allows, and the classes of parameters do not."""
    from nncf_core.structuring import structure  # it brings cattrs

    compression = config.get("compression", [])
    sections = (
        {"compression": compression}
        if isinstance(compression, Mapping)
        else {f"compression[{index}]": section for index, section in enumerate(compression)}
    )
    for where, section in sections.items():
        given = {key: value for key, value in section.items() if key not in SCOPING_KEYS}
        try:
            if section["algorithm"] in parameters:
                structure(given, parameters[section["algorithm"]], where)
        except ValidationError as error:
            yield str(error)
        except Exception as error:  # the run that reads parameters tells whose fault it is
            nncf_logger.debug("%s was not read: %s", where, error)


def _unknown(name: str, fragments: Mapping[str, Any]) -> str:
    installed = ", ".join(fragments) or "none"
    failed = [record for record in registry().records if record.error]
    for record in failed:
        if name == record.name or record.distribution == ALGORITHMS.get(name):
            return f"the plugin {record.name!r} of {record.distribution} is installed but failed: {record.error}"
    if name in ALGORITHMS:
        return f"the algorithm {name!r} is not installed; install it: pip install {ALGORITHMS[name]}"
    close = difflib.get_close_matches(name, [*fragments, *ALGORITHMS], n=3)
    hints = [
        f"{match!r}" + ("" if match in fragments else f" (pip install {ALGORITHMS[match]})")
        for match in dict.fromkeys(close)
    ]
    meant = f" Did you mean {', '.join(hints)}?" if hints else ""
    broken = f" Plugins that failed to load: {', '.join(record.name for record in failed)}." if failed else ""
    return f"no installed plugin provides the algorithm {name!r}.{meant} Installed algorithms: {installed}.{broken}"


def _accuracy_aware(section: Any) -> Iterator[str]:
    path = ("accuracy_aware_training",)
    modes = ", ".join(map(repr, ACCURACY_AWARE))
    if not isinstance(section, Mapping):
        yield f"{path[0]}: {_show(section)} is not allowed; give an object."
        return
    mode = section.get("mode")
    if not isinstance(mode, str) or mode not in ACCURACY_AWARE:
        yield f"{path[0]}.mode: {_show(mode)} is not allowed; allowed: {modes}."
        return
    # told as a sentence of its own below: "required" in two alternatives says nothing
    schema = json.loads(json.dumps(ACCURACY_AWARE[mode]))
    pair = [option["required"][0] for option in schema["properties"]["params"].pop("oneOf")]
    yield from _check(section, schema, path)
    params = section.get("params")
    if isinstance(params, Mapping) and sum(name in params for name in pair) != 1:
        yield f"{path[0]}.params: give exactly one of {pair[0]!r} and {pair[1]!r}."


@cache
def _validator() -> Any:
    """A validator of draft-07 for which NaN and infinity are no numbers: JSON has none."""
    # imported here: it takes 30 ms, and only configs that are wrong, or out of the ordinary, pay
    from jsonschema import Draft7Validator
    from jsonschema.validators import extend

    numbers = Draft7Validator.TYPE_CHECKER

    def is_number(_: object, value: object) -> bool:
        return numbers.is_type(value, "number") and math.isfinite(value)  # type: ignore[arg-type]

    return extend(Draft7Validator, type_checker=numbers.redefine("number", is_number))


def _check(data: Any, schema: Mapping[str, Any], path: Sequence[str | int]) -> Iterator[str]:
    if conforms(data, schema):
        return
    errors = _validator()(schema).iter_errors(data)
    for error in sorted(errors, key=lambda e: [str(part) for part in e.absolute_path]):
        yield from _message(error, path)


def _message(error: Any, prefix: Sequence[str | int]) -> Iterator[str]:
    path = [*prefix, *error.absolute_path]
    where = _path(path) or "the config"
    kind, allowed = error.validator, error.validator_value
    if kind == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(sorted(known))}."
                yield f"{_path([*path, str(key)])}: unknown key; {hint}"
    elif kind == "required":
        missing = [key for key in allowed if key not in error.instance]
        yield f"{where}: {', '.join(map(repr, missing))} must be given."
    else:
        yield f"{where}: {_show(error.instance)} is not allowed; {_allowed(kind, allowed, error)}."


def _allowed(kind: str, value: Any, error: Any) -> str:
    if kind in ("enum", "const"):
        values: Iterable[Any] = value if kind == "enum" else [value]
        return "allowed: " + ", ".join(_show(v) for v in values)
    if kind == "type":
        return "it must be of type " + (value if isinstance(value, str) else " or ".join(value))
    words = {
        "minimum": "at least",
        "maximum": "at most",
        "exclusiveMinimum": "greater than",
        "exclusiveMaximum": "less than",
    }
    if kind in words:
        return f"it must be {words[kind]} {value}"
    if kind in ("oneOf", "anyOf"):
        return "it must be one of: " + "; ".join(_describe(option) for option in value)
    return str(error.message)


def _describe(option: Any) -> str:
    if not isinstance(option, Mapping):
        return str(option)
    if "const" in option:
        return _show(option["const"])
    if "enum" in option:
        return ", ".join(_show(v) for v in option["enum"])
    if option.get("type") == "array":
        return f"a list, each item {_describe(option.get('items', {}))}"
    if option.get("type") == "object":
        return f"an object with the keys {', '.join(option.get('properties', {})) or 'of your choice'}"
    return f"a {option['type']}" if "type" in option else json.dumps(option)


def _path(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _show(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 80 else text[:77] + "..."
