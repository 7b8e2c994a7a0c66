"""The JSON schema of configs, assembled from the fragments that installed algorithms bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STRINGS: dict[str, Any] = {
    "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}

SCOPING: Mapping[str, Any] = {
    "ignored_scope": {
        "description": "Nodes to leave out, see nncf.IgnoredScope.",
        "type": "object",
        "properties": {
            "names": {"type": "array", "items": {"type": "string"}},
            "patterns": {"type": "array", "items": {"type": "string"}},
            "types": {"type": "array", "items": {"type": "string"}},
            "subgraphs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "inputs": {"type": "array", "items": {"type": "string"}},
                        "outputs": {"type": "array", "items": {"type": "string"}},
                    },
                    "additionalProperties": False,
                },
            },
            "validate": {"type": "boolean"},
        },
        "additionalProperties": False,
    },
    "ignored_scopes": {
        **_STRINGS,
        "description": "Names of nodes to leave out; '{re}' before a name makes it a regular expression.",
    },
    "target_scopes": {
        **_STRINGS,
        "description": "Names of the only nodes to compress, in the same notation.",
    },
    "validate_scopes": {
        "description": "Whether a scope that matches nothing is an error.",
        "type": "boolean",
        "default": True,
    },
    "statistics_path": {
        "description": "Folder of the statistics of activations: read where they are there, written where not.",
        "type": "string",
        "minLength": 1,
    },
}
"""Properties that every algorithm's section may have."""

SCOPING_KEYS = ("algorithm", *SCOPING)
"""Keys of a section that are no parameters of its algorithm."""

_NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "number"}}

_INPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sample_size": _NUMBERS,
        "type": {"type": "string"},
        "filler": {"type": "string"},
        "keyword": {"type": "string"},
    },
    "additionalProperties": False,
}

_DEGRADATION = ("maximal_relative_accuracy_degradation", "maximal_absolute_accuracy_degradation")


def _accuracy_aware(mode: str, required: list[str], **properties: Any) -> dict[str, Any]:
    degradation = {name: {"type": "number"} for name in _DEGRADATION}
    return {
        "type": "object",
        "properties": {
            "mode": {"const": mode},
            "params": {
                "type": "object",
                "properties": {**degradation, **properties},
                "required": required,
                "oneOf": [{"required": [name]} for name in _DEGRADATION],
                "additionalProperties": False,
            },
        },
        "required": ["mode", "params"],
        "additionalProperties": False,
    }


_NUMBER = {"type": "number"}


def _default(value: float) -> dict[str, Any]:
    return {**_NUMBER, "default": value}


ACCURACY_AWARE: Mapping[str, Mapping[str, Any]] = {
    "early_exit": _accuracy_aware("early_exit", ["maximal_total_epochs"], maximal_total_epochs=_NUMBER),
    "adaptive_compression_level": _accuracy_aware(
        "adaptive_compression_level",
        ["initial_training_phase_epochs", "patience_epochs"],
        initial_training_phase_epochs=_NUMBER,
        patience_epochs=_NUMBER,
        initial_compression_rate_step=_default(0.1),
        compression_rate_step_reduction_factor=_default(0.5),
        lr_reduction_factor=_default(0.5),
        minimal_compression_rate_step=_default(0.025),
        maximal_total_epochs=_default(10000),
    ),
}
"""Schemas of the accuracy-aware training modes."""

TOP_LEVEL: Mapping[str, Any] = {
    "input_info": {
        "description": "Shapes and types of the model's inputs.",
        "oneOf": [_INPUT, {"type": "array", "items": _INPUT}],
    },
    "target_device": {
        "description": "Device that the compressed model will run on.",
        "enum": ["ANY", "CPU", "GPU", "NPU", "TRIAL", "CPU_SPR"],
        "default": "ANY",
    },
    "compression_lr_multiplier": {
        "description": "Multiplier of the gradients of compression parameters.",
        "type": "number",
    },
    "disable_shape_matching": {"description": "Deprecated; has no effect.", "type": "boolean"},
    "log_dir": {"description": "Folder for logs.", "type": "string"},
    "ignored_scopes": SCOPING["ignored_scopes"],
    "target_scopes": SCOPING["target_scopes"],
    "backend_params": {"description": "Options of the backend.", "type": "object"},
    "statistics_path": SCOPING["statistics_path"],
}
"""Top-level keys but for ``compression`` and ``accuracy_aware_training``."""

KNOWN_KEYS = (*TOP_LEVEL, "compression", "accuracy_aware_training")
"""Keys of a config that mean something; others are the user's own."""


def installed_fragments() -> dict[str, Mapping[str, Any]]:
    """Schema fragment of each installed algorithm, by its name."""
    from nncf_core.registry import registry

    return {name: algorithm.schema() for name, algorithm in sorted(registry().algorithms.items())}


def section_schema(name: str, fragment: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an algorithm's section: its fragment, its name, and the scoping properties.

    It shares nothing with the fragment.
    """
    own = {"algorithm": {"const": name}}
    section = {
        **fragment,
        "type": "object",
        "properties": {**own, **SCOPING, **fragment.get("properties", {}), **own},
        "required": list(dict.fromkeys(["algorithm", *fragment.get("required", [])])),
        "additionalProperties": False,
    }
    return {key: _plain(value) for key, value in section.items()}


def _plain(value: Any) -> Any:
    """A copy of JSON data made of dicts and lists, whatever a plugin made it of."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def assemble(fragments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The whole schema, a new one at each call.

    :param fragments: schema fragment of each algorithm, by its name.
    """
    sections = [{"$ref": f"#/definitions/{name}"} for name in fragments]
    # JSON schema forbids an empty oneOf; with no algorithm installed no section is valid
    section: Any = {"oneOf": sections} if sections else False
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "NNCF configuration",
        "type": "object",
        "properties": {
            **_plain(TOP_LEVEL),
            "compression": {
                "description": "One algorithm, or several in the order in which they run.",
                "oneOf": [section, {"type": "array", "items": section}],
            },
            "accuracy_aware_training": {
                "description": "Training loop that ends when the accuracy is within a limit.",
                "oneOf": _plain(list(ACCURACY_AWARE.values())),
            },
        },
        # draft-07's word: it checks schemas under "definitions", and looks into no "$defs"
        "definitions": {name: section_schema(name, fragment) for name, fragment in fragments.items()},
    }
