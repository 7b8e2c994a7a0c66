"""Parameters of AWQ: what a config may say, and what it resolves to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.numerics.formats import Scheme, scheme_for
from nncf_core.parameters import CompressWeightsMode

PERCENT = 0.002
"""Default of a parameter that has no effect."""


@frozen
class AwqParameters:
    """The config section.

    :param mode: number format that the weights are going to have.
    :param group_size: number of input channels that will share a scale; ``-1``: all; ``None``: the format's default.
    :param all_layers: whether the last layer will have that format, too.
    :param codebook: table of mode ``codebook``.
    :param subset_size: number of samples of the dataset.
    :param prefer_data_aware_scaling: use data when there is any.
    :param alpha_min: lowest exponent of the search.
    :param alpha_max: highest exponent of the search, itself left out.
    :param steps: number of exponents that the search may choose from.
    :param percent_to_apply: without effect: all channels are scaled.
    """

    mode: CompressWeightsMode = CompressWeightsMode.INT4_ASYM
    group_size: int | None = None
    all_layers: bool | None = None
    codebook: Any = None
    subset_size: int = 32
    prefer_data_aware_scaling: bool = True
    alpha_min: float = 0.0
    alpha_max: float = 1.0
    steps: int = 100
    percent_to_apply: float = PERCENT


@frozen
class Settings:
    """Parameters after defaults and checks.

    :param scheme: how weights will be rounded; ``None``: to so many bits that there is nothing to do.
    :param exponents: float64, in ascending order.
    """

    scheme: Scheme | None
    group_size: int
    all_layers: bool
    codebook: np.ndarray | None
    exponents: np.ndarray


def resolve(params: AwqParameters) -> Settings:
    """Fill in defaults and check the values.

    :raises ParameterNotSupportedError: for modes of 8-bit integers.
    :raises ValidationError: for values out of range.
    """
    if str(params.mode).startswith("int8"):
        raise ParameterNotSupportedError(
            f"awq is for formats of at most 4 bits, and mode is {params.mode}: leave out awq, or choose another mode."
        )
    if not params.alpha_min <= params.alpha_max:
        raise ValidationError(
            f"alpha_min is {params.alpha_min} and alpha_max {params.alpha_max}; the lowest exponent comes first."
        )
    # fitted tables resemble the one that cb4 prescribes
    scheme = scheme_for("cb4" if params.mode == CompressWeightsMode.ADAPTIVE_CODEBOOK else str(params.mode))
    codebook = None if params.codebook is None else np.asarray(params.codebook, np.float32)
    size = scheme.default_group_size if params.group_size is None else params.group_size
    if size < -1 or size == 0:
        raise ValidationError(f"group_size is {size}; it must be positive, or -1 for the whole channel.")
    few = scheme.format.bits <= 4 and (codebook is None or codebook.size <= 16)
    span = params.alpha_max - params.alpha_min
    return Settings(
        scheme=scheme if few else None,
        group_size=size,
        all_layers=bool(params.all_layers),
        codebook=codebook if params.mode == CompressWeightsMode.CODEBOOK else None,
        exponents=params.alpha_min + span * np.arange(params.steps) / params.steps,
    )


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "AWQ: channels are scaled so that weights lose less when weight_compression, the next section, "
    "rounds them. Format and group size must be those of that section.",
    "properties": {
        "mode": {
            "description": "Number format that the weights are going to have.",
            "enum": [str(mode) for mode in CompressWeightsMode],
            "default": "int4_asym",
        },
        "group_size": {
            "description": "Weights along the input channels that will share a scale; -1: the whole channel.",
            "type": "integer",
            "minimum": -1,
        },
        "all_layers": {
            "description": "Whether the last layer will have that format, too.",
            "type": ["boolean", "null"],
            "default": False,
        },
        "codebook": {
            "description": "Increasing values of the table of mode codebook.",
            "type": ["array", "null"],
            "items": {"type": "number"},
        },
        "subset_size": {
            "description": "Number of samples of the dataset that are looked at.",
            "type": "integer",
            "minimum": 1,
            "default": 32,
        },
        "prefer_data_aware_scaling": {
            "description": "Use data when there is any.",
            "type": "boolean",
            "default": True,
        },
        "alpha_min": {"description": "Lowest exponent of the search.", "type": "number", "default": 0},
        "alpha_max": {"description": "Highest exponent of the search.", "type": "number", "default": 1},
        "steps": {
            "description": "Number of exponents to choose from.",
            "type": "integer",
            "minimum": 1,
            "default": 100,
        },
        "percent_to_apply": {
            "description": "Without effect: all channels are scaled.",
            "type": "number",
            "default": PERCENT,
        },
    },
}
