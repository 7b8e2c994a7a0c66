"""The JSON schema of the config section: NNCF's, with what each key means here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nncf_quantization_aware_training.parameters import GROUPS, MODES, RANGES

_SCOPES = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_SCOPING = {
    "ignored_scopes": {**_SCOPES, "description": "Left in floating point; '{re}' before a name makes it a pattern."},
    "target_scopes": {**_SCOPES, "description": "The only ones that are quantized."},
    "validate_scopes": {"description": "Whether a scope that matches nothing is an error.", "type": "boolean"},
}
_BITS = {"type": "integer", "minimum": 2, "maximum": 8}


def _count(description: str, default: int | None = None, least: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {"description": description, "type": "integer", "minimum": least}
    return found if default is None else {**found, "default": default}


def _number(description: str, default: float) -> dict[str, Any]:
    return {"description": description, "type": "number", "minimum": 0, "default": default}


def _object(description: str, properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    found = {"description": description, "type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


_PERCENT = {"type": "number", "minimum": 0, "maximum": 100}

RANGE: Mapping[str, Any] = {
    "num_init_samples": _count("Samples that ranges are found on, in whole batches.", 256, 1),
    "type": {
        "description": "mixed_min_max: extremes of weights, means of the samples' extremes of activations; min_max: "
        "extremes; mean_min_max: means of the samples' extremes; percentile: percentiles of all elements; "
        "mean_percentile: means of the samples' percentiles.",
        "enum": list(RANGES),
        "default": "mixed_min_max",
    },
    "params": _object(
        "Of the percentiles.",
        {"min_percentile": {**_PERCENT, "default": 0.1}, "max_percentile": {**_PERCENT, "default": 99.9}},
    ),
}

_RANGES: Mapping[str, Any] = {
    "description": "How ranges are found; several, each for some quantizers.",
    "oneOf": [
        _object("Of all quantizers.", RANGE),
        {
            "type": "array",
            "items": _object(
                "Of some quantizers.",
                {**RANGE, **_SCOPING, "target_quantizer_group": {"enum": list(GROUPS)}},
            ),
        },
    ],
}

_PRECISION = _object(
    "Which quantizers get how many bits.",
    {
        "type": {
            "description": "manual: as bitwidth_per_scope says; hawq: by traces of the loss's Hessian.",
            "enum": ["hawq", "autoq", "manual"],
        },
        "bits": {"type": "array", "items": _BITS, "minItems": 1, "default": [2, 4, 8]},
        "bitwidth_per_scope": {
            "description": "Pairs of bits and a scope.",
            "type": "array",
            "items": {"type": "array", "minItems": 2, "maxItems": 2},
        },
        "num_data_points": _count("Samples that traces are of.", 100, 1),
        "iter_number": _count("Random vectors for a trace, at most.", 200, 1),
        "tolerance": _number("Change of a trace, relative to it, at which no more vectors are taken.", 1e-4),
        "compression_ratio": _number("How many times fewer bit operations than with 8 bits.", 1.5),
        "eval_subset_ratio": _number("Of autoq.", 1.0),
        "warmup_iter_number": _count("Of autoq.", 20),
        "traces_per_layer_path": {"description": "A file of traces that were found before.", "type": "string"},
        "dump_init_precision_data": {"type": "boolean", "default": False},
        "bitwidth_assignment_mode": {"enum": ["strict", "liberal"], "default": "liberal"},
    },
    ("type",),
)

_GROUP: Mapping[str, Any] = {
    "mode": {"description": "asymmetric: with zero points.", "enum": list(MODES)},
    "bits": {**_BITS, "default": 8},
    "signed": {"description": "Whether integers without zero points have a sign.", "type": "boolean"},
    "per_channel": {"description": "Whether each channel has a scale.", "type": "boolean"},
}

_OVERRIDE = {**_GROUP, "initializer": _object("Of these quantizers.", {"range": _object("Their ranges.", RANGE)})}


def _group(what: str, **more: Any) -> dict[str, Any]:
    properties = {**_GROUP, "logarithm_scale": {"type": "boolean", "default": False}, **_SCOPING, **more}
    return _object(f"Quantizers of {what}.", properties)


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Quantizers whose ranges are trained with the model; post-training quantization without a training.",
    "properties": {
        "initializer": _object(
            "What quantizers begin with.",
            {
                "range": _RANGES,
                "precision": _PRECISION,
                "batchnorm_adaptation": _object(
                    "Normalization is part of the layers before it here; their biases take back what rounding of "
                    "weights changes in mean outputs.",
                    {"num_bn_adaptation_samples": _count("0: they do not.", 2000)},
                ),
            },
        ),
        "preset": {
            "description": "performance: activations without zero points; mixed: with them.",
            "enum": ["performance", "mixed"],
            "default": "performance",
        },
        "quantize_inputs": {"description": "What enters the model.", "type": "boolean", "default": True},
        "quantize_outputs": {"description": "What leaves the model.", "type": "boolean", "default": False},
        "weights": _group("weights"),
        "activations": _group(
            "activations",
            unified_scale_ops={"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        ),
        "scope_overrides": _object(
            "Parameters of single quantizers, by their names.",
            {
                group: {"type": "object", "additionalProperties": _object("What is different.", _OVERRIDE)}
                for group in GROUPS
            },
        ),
        "export_to_onnx_standard_ops": {
            "description": "Deprecated; files always hold operators of the standard.",
            "type": "boolean",
        },
        "overflow_fix": {
            "description": "Half of the integers for weights, for processors whose 16-bit sums saturate.",
            "enum": ["enable", "disable", "first_layer_only"],
            "default": "enable",
        },
        "params": _object(
            "When quantizers begin to act, and how the learning rate falls.",
            {
                "batch_multiplier": _count("Batches for a step of the optimizer.", least=1),
                "activations_quant_start_epoch": _count("Epoch in which activations begin.", 1),
                "weights_quant_start_epoch": _count("Epoch in which weights begin.", 1),
                "lr_poly_drop_start_epoch": _count("Epoch from which the learning rate falls."),
                "lr_poly_drop_duration_epochs": _count("Epochs in which it falls to 0.", 30, 1),
                "disable_wd_start_epoch": _count("Epoch from which there is no weight decay."),
                "base_lr": _number("Learning rate before.", 1e-3),
                "base_wd": _number("Weight decay before.", 1e-5),
            },
        ),
        "compression_lr_multiplier": _number("Factor of the gradients of ranges.", 1.0),
        "target_device": {"enum": ["ANY", "CPU", "GPU", "NPU", "CPU_SPR"], "default": "ANY"},
    },
}
