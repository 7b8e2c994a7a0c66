"""The same numbers as the kernels', one element at a time, with nothing clever. Imports no kernel.

Scalar float32 arithmetic where rounding matters, exact fractions where the nearest of some values is sought.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from fractions import Fraction
from typing import NamedTuple

import numpy as np

F32 = np.float32
EPS = F32(2.0**-23)

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
CB4 = [-3.5, -2.5, -1.875, -1.375, -1, -0.625, -0.3125, 0, 0.28125, 0.5625, 0.875, 1.125, 1.5, 2, 2.5, 3.5]
E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
E4M3 = [m * 2.0**-9 for m in range(8)] + [(8 + m) / 8 * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8)][:-1]

INTEGERS = {"int8_sym": 8, "int8_asym": 8, "int4_sym": 4, "int4_asym": 4, "int3_sym": 3, "int2_sym": 2}
MAGNITUDES = {
    "mxfp4": E2M1, "fp4": E2M1, "nvfp4": E2M1, "mxfp8_e4m3": E4M3, "fp8_e4m3": E4M3,
}  # fmt: skip
MODES = [*INTEGERS, "nf4", *MAGNITUDES, "cb4", "codebook"]


class Slow(NamedTuple):
    """Codes as unsigned bit patterns in the tensor's shape; scales as stored (bit patterns for float8)."""

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray | None
    global_scale: np.float32 | None
    values: np.ndarray


def groups_of(shape, axes, group_size):
    """Indices of the elements that share a scale, by the index of the scale."""
    groups = {}
    for index in np.ndindex(*shape):
        key = tuple(
            i if axis not in axes else 0 if group_size == -1 else i // group_size for axis, i in enumerate(index)
        )
        groups.setdefault(key, []).append(index)
    return groups


def nearest_magnitude(x, magnitudes):
    """Code of the nearest of increasing magnitudes; ties to the even code."""
    exact = Fraction(float(abs(x)))
    right = min(bisect_left(magnitudes, exact), len(magnitudes) - 1)
    candidates = {max(right - 1, 0), right}
    return min(candidates, key=lambda code: (abs(Fraction(magnitudes[code]) - exact), code % 2))


def nearest_entry(x, table):
    """Index of the nearest entry; ties to the lower one."""
    exact = Fraction(float(x))
    return min(range(len(table)), key=lambda i: (abs(Fraction(float(table[i])) - exact), i))


def float32_scale(values, mode, table):
    """A group's scale before it is stored."""
    lo, hi = min(values), max(values)
    if mode.endswith("_asym"):
        return (max(hi, F32(0)) - min(lo, F32(0))) / F32(2 ** INTEGERS[mode] - 1)
    if mode in MAGNITUDES:
        return max(abs(v) for v in values) / F32(MAGNITUDES[mode][-1])
    if mode in INTEGERS:
        peak = F32(-(2 ** (INTEGERS[mode] - 1)))
    else:
        peak = table[-1] if table[-1] > -table[0] else table[0]
    if peak < 0:
        return (-lo if -lo >= hi else -hi) / -peak
    return (hi if hi >= -lo else lo) / peak


def compress(weight, mode, axes, group_size=-1, codebook=None):
    """What ``kernels.compress`` must give."""
    table = [F32(v) for v in {"nf4": NF4, "cb4": CB4}.get(mode, [] if codebook is None else codebook)]
    groups = {
        key: [(i, F32(weight[i])) for i in indices]
        for key, indices in groups_of(weight.shape, axes, group_size).items()
    }
    scale_shape = tuple(max(key[axis] for key in groups) + 1 for axis in range(weight.ndim))
    raw = {key: float32_scale([v for _, v in pairs], mode, table) for key, pairs in groups.items()}
    factor, global_scale = {}, None
    if mode.startswith("mx"):
        stored = np.zeros(scale_shape, np.uint8)
        for key, ratio in raw.items():
            exponent = -127
            while exponent < 127 and Fraction(2) ** exponent < Fraction(float(ratio)):
                exponent += 1
            stored[key], factor[key] = exponent + 127, F32(2.0**exponent)
    elif mode == "nvfp4":
        stored = np.zeros(scale_shape, np.uint8)
        raw = {key: EPS if scale < EPS else scale for key, scale in raw.items()}
        global_scale = max(raw.values()) / F32(448)
        for key, scale in raw.items():
            stored[key] = max(nearest_magnitude(scale / global_scale, E4M3), 1)
            factor[key] = F32(E4M3[stored[key]]) * global_scale
    else:
        wide = any(EPS <= abs(s) < F32(2.0**-16) or abs(s) > F32(65504) for s in raw.values())
        stored = np.zeros(scale_shape, np.float32 if wide else np.float16)
        for key, scale in raw.items():
            stored[key] = EPS if abs(scale) < EPS else scale
            factor[key] = F32(stored[key])
    codes, values = np.zeros(weight.shape, np.int64), np.zeros(weight.shape, np.float32)
    zero_points = np.zeros(scale_shape, np.uint8) if mode.endswith("_asym") else None
    for key, pairs in groups.items():
        scale = factor[key]
        if zero_points is not None:
            lo = min(F32(0), *(v for _, v in pairs), F32(0))
            zero_points[key] = min(max(round(float(-lo / scale)), 0), 2 ** INTEGERS[mode] - 1)
        for index, v in pairs:
            x = v / scale
            if zero_points is not None:
                code = min(max(round(float(x + F32(zero_points[key]))), 0), 2 ** INTEGERS[mode] - 1)
                value = F32(code) - F32(zero_points[key])
            elif mode in INTEGERS:
                half = 2 ** (INTEGERS[mode] - 1)
                value = F32(min(max(round(float(x)), -half), half - 1))
                code = int(value) % (2 * half)
            elif mode in MAGNITUDES:
                magnitude = nearest_magnitude(x, MAGNITUDES[mode])
                sign = math.copysign(1, x)
                value = F32(sign * MAGNITUDES[mode][magnitude])
                code = magnitude + (0 if sign > 0 else 8 if MAGNITUDES[mode] is E2M1 else 128)
            else:
                code = nearest_entry(x, table)
                value = table[code]
            codes[index] = code
            values[index] = value * F32(E4M3[stored[key]]) * global_scale if global_scale else value * scale
    return Slow(codes, stored, zero_points, global_scale, values)


def pack(codes, bits):
    """Codes as one large little-endian number."""
    number = 0
    for position, code in enumerate(np.asarray(codes).ravel().tolist()):
        number |= (code % 2**bits) << (position * bits)
    return np.frombuffer(number.to_bytes(-(-np.size(codes) * bits // 8), "little"), np.uint8)


def quantization_error(weight, axes):
    """Largest mean squared error of int8_asym with float32 scales."""
    worst = 0.0
    for indices in groups_of(weight.shape, axes, -1).values():
        values = [F32(weight[i]) for i in indices]
        scale = float32_scale(values, "int8_asym", [])
        scale = EPS if abs(scale) < EPS else scale
        zero = min(max(round(float(-min(F32(0), *values, F32(0)) / scale)), 0), 255)
        total = 0.0
        for v in values:
            code = min(max(round(float(v / scale + F32(zero))), 0), 255)
            total += float(F32(code - zero) * scale - v) ** 2
        worst = max(worst, total / len(values))
    return worst
