"""Parameters of single quantizers, by the names of what they quantize."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from attrs import Factory, evolve, field, frozen

from nncf_core.advanced import AdvancedQuantizationParameters, QuantizationParameters, QuantizationScheme
from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.graph import Graph
from nncf_core.range_estimator import RangeEstimatorParameters
from nncf_core.scopes import UNCHECKED_LISTS, IgnoredScope, ignored_names

GROUPS = ("activations", "weights")


def _compiled(patterns: Iterable[str]) -> list[str]:
    listed = list(patterns)
    for pattern in listed:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValidationError(
                f"The pattern {pattern!r} of an override is no regular expression: {error}."
            ) from None
    return listed


@frozen
class Override:
    """What is different for some quantizers.

    :param group: ``activations`` or ``weights``.
    :param names: of weights, or of the layers that take them; of activations, of the nodes at which their quantizers
        stand, before or behind: a quantizer of a layer's operand mostly stands behind the node that gives it.
    :param patterns: regular expressions that a name must match from its start. With neither all of the group are meant.
    :param validate: whether names and patterns that the model does not have are an error.
    :param quantize: ``False`` leaves them in floating point, but for those that a later one does not.
    :param range_estimator_params: how their ranges are found; ``None``: as those of the others.
    """

    group: str
    names: list[str] = Factory(list)
    patterns: list[str] = field(factory=list, converter=_compiled)
    validate: bool = True
    quantize: bool | None = None
    num_bits: int | None = None
    mode: QuantizationScheme | None = None
    signedness_to_force: bool | None = None
    per_channel: bool | None = None
    narrow_range: bool | None = None
    range_estimator_params: RangeEstimatorParameters | None = None

    def __attrs_post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValidationError(f"The group of an override is {self.group!r}; it can be {' or '.join(GROUPS)}.")

    def covers(self, group: str, names: Collection[str]) -> bool:
        """Whether it is meant for a quantizer of these names."""
        if group != self.group:
            return False
        if not self.names and not self.patterns:
            return True
        return not set(self.names).isdisjoint(names) or any(
            re.match(pattern, name) for pattern in self.patterns for name in names
        )


OVERRIDES: Mapping[str, Any] = {
    "description": "What is different for some quantizers; where several are meant for one, the last says.",
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "group": {"enum": list(GROUPS)},
            "names": {"type": "array", "items": {"type": "string"}},
            "patterns": {"type": "array", "items": {"type": "string"}},
            "validate": {"type": "boolean", "default": True},
            "quantize": {"type": "boolean"},
            "num_bits": {"type": "integer", "minimum": 2, "maximum": 8},
            "mode": {"enum": [str(mode) for mode in QuantizationScheme]},
            "signedness_to_force": {"type": "boolean"},
            "per_channel": {"type": "boolean"},
            "narrow_range": {"type": "boolean"},
            "range_estimator_params": {"type": "object"},
        },
        "required": ["group"],
        "additionalProperties": False,
    },
}


@frozen
class MixedPrecision:
    """Bits by how curved the loss is, see :mod:`nncf_post_training_quantization.mixed_precision`.

    :param bits: to choose from.
    :param compression_ratio: how many times fewer bit operations than with 8 bits.
    :param samples: that traces are means over.
    :param vectors: for each batch, at most.
    :param tolerance: of a trace, relative.
    :param traces: mean traces by the names of weights; ``None``: the backend finds them.
    """

    bits: list[int]
    compression_ratio: float = 1.5
    samples: int = 100
    vectors: int = 200
    tolerance: float = 1e-4
    traces: dict[str, float] | None = None


MIXED_PRECISION: Mapping[str, Any] = {
    "description": "Bits by traces of the loss's Hessian (HAWQ).",
    "type": "object",
    "properties": {
        "bits": {"type": "array", "items": {"type": "integer", "minimum": 2, "maximum": 8}, "minItems": 1},
        "compression_ratio": {"type": "number", "minimum": 1},
        "samples": {"type": "integer", "minimum": 1},
        "vectors": {"type": "integer", "minimum": 1},
        "tolerance": {"type": "number", "minimum": 0},
        "traces": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["bits"],
    "additionalProperties": False,
}


def overridden(
    advanced: AdvancedQuantizationParameters, overrides: Iterable[Override]
) -> AdvancedQuantizationParameters:
    """The parameters with what overrides give."""
    for override in overrides:
        params, ranges = f"{override.group}_quantization_params", f"{override.group}_range_estimator_params"
        old = getattr(advanced, params)
        if old is not None and not isinstance(old, QuantizationParameters):
            raise ParameterNotSupportedError("overrides are about integers; leave out the mode of 8-bit floats.")
        given = {
            name: value
            for name in ("num_bits", "mode", "signedness_to_force", "per_channel", "narrow_range")
            if (value := getattr(override, name)) is not None
        }
        changes: dict[str, Any] = {params: evolve(old or QuantizationParameters(), **given)}
        if override.range_estimator_params is not None:
            changes[ranges] = override.range_estimator_params
        advanced = evolve(advanced, **changes)
    return advanced


def check(overrides: Iterable[Override], graph: Graph) -> None:
    """See that the model has what overrides name.

    :raises ValidationError: naming what it does not have.
    """
    for override in overrides:
        scope = IgnoredScope(names=override.names, patterns=override.patterns)
        if override.validate:
            ignored_names(graph, scope, "An override of quantizers", f'{UNCHECKED_LISTS} in "{override.group}"')
