"""Number formats, and the schemes that the weight compression modes stand for, as data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from attrs import field, frozen

from nncf_core.errors import ValidationError

Family = Literal["integer", "float", "codebook"]


@frozen
class NumberFormat:
    """What the codes of a low-bit tensor mean.

    :param name: e.g. ``int4``; the format of codebook indices is always called ``codebook``.
    :param bits: bits of a code.
    :param family: ``integer``: two's complement or unsigned; ``float``: a table or a tiny float;
        ``codebook``: indices into a table that the tensor carries.
    :param max_value: the largest magnitude that a code stands for; 0 for codebooks, whose table decides.
    :param lo: smallest integer.
    :param hi: largest integer.
    :param values: value of each code, for 4-bit float formats.
    :param mantissa_bits: explicit bits of the mantissa, for formats of sign, exponent and mantissa.
    :param min_exponent: exponent of the smallest normal value, for the same formats.
    """

    name: str
    bits: int
    family: Family
    max_value: float
    lo: int | None = None
    hi: int | None = None
    values: tuple[float, ...] = field(default=(), repr=False)
    mantissa_bits: int | None = None
    min_exponent: int | None = None

    @property
    def signed(self) -> bool:
        """Whether codes are two's complement integers."""
        return self.lo is not None and self.lo < 0


def _integer(name: str, bits: int, signed: bool) -> NumberFormat:
    lo, hi = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return NumberFormat(name, bits, "integer", float(max(-lo, hi)), lo=lo, hi=hi)


# NormalFloat4 as published with QLoRA (https://arxiv.org/abs/2305.14314, appendix E).
_NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

# OCP Microscaling Formats (MX) v1.0, section 5.3.3; codes 8..15 have the sign bit set, 8 is -0.
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)

# Sixteen values that float8_e4m3fn holds exactly.
_CB4 = (
    -3.5,
    -2.5,
    -1.875,
    -1.375,
    -1.0,
    -0.625,
    -0.3125,
    0.0,
    0.28125,
    0.5625,
    0.875,
    1.125,
    1.5,
    2.0,
    2.5,
    3.5,
)

FORMATS: Mapping[str, NumberFormat] = MappingProxyType(
    {
        f.name: f
        for f in (
            _integer("int8", 8, signed=True),
            _integer("uint8", 8, signed=False),
            _integer("int4", 4, signed=True),
            _integer("uint4", 4, signed=False),
            _integer("int3", 3, signed=True),
            _integer("int2", 2, signed=True),
            NumberFormat("nf4", 4, "float", 1.0, values=_NF4),
            NumberFormat("f4e2m1", 4, "float", 6.0, values=_E2M1, mantissa_bits=1, min_exponent=0),
            NumberFormat("f8e4m3", 8, "float", 448.0, mantissa_bits=3, min_exponent=-6),
            NumberFormat("f8e5m2", 8, "float", 57344.0, mantissa_bits=2, min_exponent=-14),
            NumberFormat("codebook", 4, "codebook", 0.0),
        )
    }
)
"""Number formats by name. Codebook tensors with a table of more than 16 values have 8 or 16 bits instead."""


@frozen
class Scheme:
    """How a compression mode turns weights into codes: what a ``CompressWeightsMode`` means.

    :param name: value of the mode.
    :param format: number format of the codes.
    :param asymmetric: whether there are zero points.
    :param scale_dtype: element type of stored scales: ``float16``, ``float8_e8m0fnu`` or ``float8_e4m3fn``.
        float16 is widened to float32 for a tensor whose scales do not fit, see
        :func:`nncf_core.numerics.kernels.compress`.
    :param default_group_size: group size when the user gives none; ``-1``: the axis is not divided.
    :param fixed_group_size: the only group size that the format's definition knows; ``None``: any.
    :param power_of_two_scale: whether scales are powers of two (MX formats).
    :param signed_scale: whether a scale has the sign that brings the element of the largest magnitude to the
        code of the largest magnitude.
    :param has_global_scale: whether there is one more factor for the whole tensor (NVFP4).
    :param codebook: values that the codes stand for, where the scheme prescribes them.
    """

    name: str
    format: NumberFormat
    asymmetric: bool = False
    scale_dtype: str = "float16"
    default_group_size: int = 128
    fixed_group_size: int | None = None
    power_of_two_scale: bool = False
    signed_scale: bool = False
    has_global_scale: bool = False
    codebook: tuple[float, ...] | None = field(default=None, repr=False)

    @property
    def signed_range(self) -> bool:
        """Whether scales depend on the smallest and largest value, not on the largest magnitude alone."""
        return self.asymmetric or self.signed_scale


def _mx(name: str, format_name: str) -> Scheme:
    return Scheme(
        name,
        FORMATS[format_name],
        scale_dtype="float8_e8m0fnu",
        default_group_size=32,
        fixed_group_size=32,
        power_of_two_scale=True,
    )


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        s.name: s
        for s in (
            Scheme("int8_sym", FORMATS["int8"], default_group_size=-1, signed_scale=True),
            Scheme("int8_asym", FORMATS["uint8"], default_group_size=-1, asymmetric=True),
            Scheme("int4_sym", FORMATS["int4"], signed_scale=True),
            Scheme("int4_asym", FORMATS["uint4"], asymmetric=True),
            Scheme("int3_sym", FORMATS["int3"], signed_scale=True),
            Scheme("int2_sym", FORMATS["int2"], signed_scale=True),
            Scheme("nf4", FORMATS["nf4"], signed_scale=True),
            _mx("mxfp4", "f4e2m1"),
            _mx("mxfp8_e4m3", "f8e4m3"),
            Scheme("fp8_e4m3", FORMATS["f8e4m3"]),
            Scheme("fp4", FORMATS["f4e2m1"]),
            Scheme(
                "nvfp4",
                FORMATS["f4e2m1"],
                scale_dtype="float8_e4m3fn",
                default_group_size=16,
                fixed_group_size=16,
                has_global_scale=True,
            ),
            Scheme("cb4", FORMATS["codebook"], default_group_size=-1, signed_scale=True, codebook=_CB4),
            Scheme("codebook", FORMATS["codebook"], default_group_size=-1, signed_scale=True),
        )
    }
)
"""Schemes by name."""

_ALIASES = {"int8": "int8_asym", "e2m1": "mxfp4", "cb4_f8e4m3": "cb4"}


def scheme_for(mode: str) -> Scheme:
    """The scheme that a mode's value stands for; former names of modes are understood.

    :param mode: value of a ``CompressWeightsMode``.
    :raises ValidationError: when there is no such scheme here; modes that fit their values to the data, such
        as ``adaptive_codebook``, belong to the plugin that does the fitting.
    """
    name = str(mode)
    scheme = SCHEMES.get(_ALIASES.get(name, name))
    if scheme is None:
        known = ", ".join(sorted({*SCHEMES, *_ALIASES}))
        raise ValidationError(f"Unknown compression mode {name!r}; known modes: {known}.")
    return scheme
