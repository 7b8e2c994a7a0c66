"""The first look at a config: what it says yes to is what the validator says yes to, and configs in use are such."""

import itertools
import math
import subprocess
import sys
from types import MappingProxyType

import jsonschema
import pytest

from nncf_core.config.conformity import conforms
from nncf_core.config.schema import TOP_LEVEL, installed_fragments, section_schema

VALUES = [
    None, True, False, 0, 1, -1, 7, 2**70, 0.0, 1.0, 0.5, -0.5, math.nan, math.inf, "", "a", "abc", [], [1], ["a", 1],
    [[]], {}, {"a": 1}, {"a": "x", "b": True}, {"c": None}, {"a": 1, "c": {"a": 2}},
]  # fmt: skip

SCHEMAS = [
    True,
    False,
    {},
    {"type": "integer"},
    {"type": "number", "minimum": 0, "maximum": 7},
    {"type": ["string", "null"]},
    {"type": "boolean", "default": True},
    {"enum": [1, "a", None, 0.5]},
    {"enum": [True, 0]},
    {"const": 1},
    {"const": {"a": 1}},
    {"exclusiveMinimum": 0, "exclusiveMaximum": 1, "type": "number"},
    {"minimum": 1},
    {"minLength": 2},
    {"type": "string", "minLength": 1},
    {"type": "array", "items": {"type": "number"}},
    {"type": "array", "items": [{"type": "string"}]},
    {"items": {"type": "string"}},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False},
    {"type": "object", "properties": {"a": {"minimum": 1}}, "additionalProperties": {"type": "boolean"}},
    {"patternProperties": {"^a": {"type": "string"}}, "additionalProperties": False},
    {"properties": {"c": {"required": ["a"]}}, "required": ["a"]},
    {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    {"not": {"type": "string"}},
    {"uniqueItems": True},
    {"$ref": "#/definitions/x", "definitions": {"x": {"type": "string"}}},
]


def says_yes(data: object, schema: object) -> bool:
    """Whether the whole validator, with NaN and infinity taken for no numbers, finds nothing wrong."""
    numbers = jsonschema.Draft7Validator.TYPE_CHECKER
    checker = numbers.redefine("number", lambda _, x: numbers.is_type(x, "number") and math.isfinite(x))
    return jsonschema.validators.extend(jsonschema.Draft7Validator, type_checker=checker)(schema).is_valid(data)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_says_yes_to_nothing_that_does_not_fit(schema: object) -> None:
    wrong = [data for data in VALUES if conforms(data, schema) and not says_yes(data, schema)]
    assert not wrong


def test_says_yes_to_most_that_fits() -> None:
    fitting = [(d, s) for d, s in itertools.product(VALUES, SCHEMAS) if says_yes(d, s)]
    known = [pair for pair in fitting if conforms(*pair)]
    assert len(known) > len(fitting) // 4


@pytest.mark.parametrize("section", [
    {"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 64, "ratio": 0.8, "all_layers": True},
    {"algorithm": "weight_compression", "ignored_scope": {"names": ["a"], "validate": False}},
    {"algorithm": "post_training_quantization", "preset": "mixed", "subset_size": 10},
])  # fmt: skip
def test_usual_sections_need_no_validator(section: dict) -> None:
    fragments = installed_fragments()
    name = section["algorithm"]
    assert conforms(section, section_schema(name, fragments[name]))
    assert not conforms({**section, "more": 1}, section_schema(name, fragments[name]))
    assert conforms({"compression": section, "backend_params": {"a": [1]}}, {"properties": dict(TOP_LEVEL)})


def test_what_is_no_plain_data_is_left_to_the_validator() -> None:
    assert not conforms(MappingProxyType({}), {"type": "object"})
    assert not conforms((1,), {"type": "array"})


def test_a_usual_config_does_not_import_the_validator() -> None:
    code = (
        "import sys; from nncf_core.config.nncf_config import NNCFConfig; "
        "NNCFConfig.from_dict({'compression': {'algorithm': 'weight_compression', 'mode': 'nf4'}}); "
        "sys.exit('jsonschema' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
