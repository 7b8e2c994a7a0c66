"""From the section of ``quantization`` to that of ``post_training_quantization``, which places quantizers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nncf_core.errors import InvalidPathError, ParameterNotSupportedError, ValidationError
from nncf_core.structuring import structure
from nncf_quantization_aware_training.parameters import (
    GROUPS,
    GroupSettings,
    RangeInit,
    TrainingSettings,
    names_of,
)

ALGORITHM = "post_training_quantization"


def translated(params: TrainingSettings) -> dict[str, Any]:
    """The section.

    :raises ParameterNotSupportedError: for what cannot be said in it.
    """
    common, several = _ranges(params)
    advanced: dict[str, Any] = {
        "overflow_fix": params.overflow_fix,
        "quantize_outputs": params.quantize_outputs,
        "disable_bias_correction": not _corrects_biases(params),
        **{f"{group}_quantization_params": _quantizer(getattr(params, group)) for group in GROUPS},
        **{f"{group}_range_estimator_params": found for group in GROUPS if (found := estimator(common, group))},
    }
    samples = {one.num_init_samples for one in (common, *several) if one is not None}
    return {
        "algorithm": ALGORITHM,
        "preset": params.preset,
        # NNCF 2: a device that restricts nothing
        "target_device": "ANY" if params.target_device == "TRIAL" else params.target_device,
        "subset_size": max(samples, default=RangeInit().num_init_samples),
        "batches_count": True,
        "quantize_inputs": params.quantize_inputs,
        "advanced_parameters": advanced,
        **_mixed_precision(params),
        "overrides": [*_left_out(params), *_manual(params), *_of_ranges(params, several), *_of_scopes(params)],
    }


def _corrects_biases(params: TrainingSettings) -> bool:
    """Whether biases take back what rounding of weights does; not where weights are not rounded at first."""
    late = params.params is not None and params.params.weights_quant_start_epoch > 0
    return params.initializer.batchnorm_adaptation.num_bn_adaptation_samples > 0 and not late


def _quantizer(group: GroupSettings) -> dict[str, Any]:
    given = {
        "num_bits": group.bits,
        "mode": group.mode,
        "signedness_to_force": group.signed,
        "per_channel": group.per_channel,
    }
    return {name: value for name, value in given.items() if value is not None}


def _ranges(params: TrainingSettings) -> tuple[RangeInit | None, list[RangeInit]]:
    """How ranges of all quantizers are found, and those of some."""
    given, where = params.initializer.range, "initializer.range"
    if isinstance(given, Mapping):
        return structure(given, RangeInit, where), []
    found = [
        structure({key: value for key, value in item.items() if key != "validate_scopes"}, RangeInit, f"{where}[{i}]")
        for i, item in enumerate(given or ())
    ]
    return None, found


def estimator(given: RangeInit | None, group: str) -> dict[str, Any] | None:
    """The estimator of a range; ``None`` for the usual one: extremes of weights, means of extremes of activations."""
    if given is None or given.type == "mixed_min_max":
        return None
    if given.type in ("min_max", "mean_min_max"):
        aggregators = ("min", "max") if given.type == "min_max" else ("mean", "mean")
        return {
            side: {"statistics_type": side, "aggregator_type": aggregator}
            for side, aggregator in zip(("min", "max"), aggregators, strict=True)
        }
    outside = {
        "min": given.params.get("min_percentile", 0.1) / 100,
        "max": 1 - given.params.get("max_percentile", 99.9) / 100,
    }
    for side, share in outside.items():
        if not 0 <= share < 0.5:
            raise ParameterNotSupportedError(
                f"initializer.range.params.{side}_percentile leaves out {share:.1%} of the elements; less than half "
                "can be, on either side."
            )
    kinds = ("raw", "quantile") if given.type == "percentile" else ("quantile", "mean")
    return {
        side: {"statistics_type": kinds[0], "aggregator_type": kinds[1], "quantile_outlier_prob": share}
        for side, share in outside.items()
    }


def _override(group: str, scopes: Iterable[str], validate: bool = True, **given: Any) -> dict[str, Any]:
    """What is different for quantizers of some names, which may be patterns."""
    listed = list(scopes)
    return {
        "group": group,
        "names": [scope for scope in listed if not scope.startswith("{re}")],
        "patterns": [scope.removeprefix("{re}") for scope in listed if scope.startswith("{re}")],
        "validate": validate,
        **{name: value for name, value in given.items() if value is not None},
    }


def _validates(params: TrainingSettings, group: str) -> bool:
    settings: GroupSettings = getattr(params, group)
    return settings.validate_scopes


def _left_out(params: TrainingSettings) -> Iterator[dict[str, Any]]:
    for name in GROUPS:
        group: GroupSettings = getattr(params, name)
        if group.target_scopes:
            yield _override(name, (), quantize=False)
            yield _override(name, group.target_scopes, group.validate_scopes, quantize=True)
        if group.ignored_scopes:
            yield _override(name, group.ignored_scopes, group.validate_scopes, quantize=False)


def _manual(params: TrainingSettings) -> Iterator[dict[str, Any]]:
    precision = params.initializer.precision
    if precision is None or precision.type != "manual":
        return
    for bits, scope in precision.bitwidth_per_scope:
        for group in GROUPS:
            yield _override(group, names_of(scope), _validates(params, group), num_bits=bits)


def _mixed_precision(params: TrainingSettings) -> dict[str, Any]:
    """What HAWQ is to do, where it is asked for.

    :raises ValidationError: when a file of traces is not one.
    """
    precision = params.initializer.precision
    if precision is None or precision.type != "hawq":
        return {}
    found: dict[str, Any] = {
        "bits": precision.bits,
        "compression_ratio": precision.compression_ratio,
        "samples": precision.num_data_points,
        "vectors": precision.iter_number,
        "tolerance": precision.tolerance,
    }
    if precision.traces_per_layer_path is not None:
        found["traces"] = _traces(Path(precision.traces_per_layer_path))
    return {"mixed_precision": found}


def _traces(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidPathError(f"Cannot read the traces {path}: {error}.") from None
    except ValueError as error:
        raise ValidationError(
            f"{path} is not JSON: {error}; it must hold an object of names of weights and mean traces."
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, (int, float)) for value in found.values()):
        raise ValidationError(
            f"{path} holds no traces; it must hold a JSON object of names of weights and mean traces."
        )
    return {name: float(value) for name, value in found.items()}


def _of_ranges(params: TrainingSettings, several: Iterable[RangeInit]) -> Iterator[dict[str, Any]]:
    for given in several:
        for group in GROUPS if given.target_quantizer_group is None else (given.target_quantizer_group,):
            found = estimator(given, group)
            if found is not None:
                yield _override(group, given.target_scopes, _validates(params, group), range_estimator_params=found)


def _of_scopes(params: TrainingSettings) -> Iterator[dict[str, Any]]:
    for group, scopes in params.scope_overrides.items():
        for scope, given in scopes.items():
            fields = {key: value for key, value in given.items() if key != "initializer"}
            settings = structure(fields, GroupSettings, f"scope_overrides.{group}.{scope}")
            if group == "activations" and settings.per_channel:
                raise ParameterNotSupportedError(
                    f"scope_overrides.activations.{scope}.per_channel is not supported: runtimes take activations of "
                    "one scale; leave it out."
                )
            ranges = given.get("initializer", {}).get("range")
            found = None if ranges is None else estimator(structure(ranges, RangeInit, scope), group)
            quantizer = _quantizer(settings)
            if "bits" not in given:
                quantizer.pop("num_bits")
            yield _override(group, [scope], _validates(params, group), range_estimator_params=found, **quantizer)
