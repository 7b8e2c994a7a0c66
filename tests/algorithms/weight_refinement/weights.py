"""Weights and inputs that the tests of kernels share."""

from __future__ import annotations

import numpy as np

from nncf_core.graph import WeightLayout
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress
from nncf_weight_refinement.grouped import Axes, grouped

CODEBOOK = np.array([-2.0, -0.7, -0.1, 0.0, 0.3, 1.0, 5.0], np.float32)
MODES = (
    "int8_sym", "int8_asym", "int4_sym", "int4_asym", "int3_sym", "int2_sym", "nf4", "fp4", "mxfp4", "nvfp4", "cb4",
    "codebook", "fp8_e4m3",
)  # fmt: skip
FEW_BITS = tuple(mode for mode in MODES if SCHEMES[mode].format.bits <= 4)


def weight(outputs=24, inputs=64, seed=0):
    """Heavy tails, as weights have them; float32, [outputs, inputs]."""
    return (np.random.default_rng(seed).standard_t(4, (outputs, inputs)) * 0.05).astype(np.float32)


def gram(inputs=64, samples=200, seed=1):
    """Gram matrix of inputs that depend on each other and differ in size; float32."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(samples, inputs)) @ rng.normal(size=(inputs, inputs)) / np.sqrt(inputs)
    x = (mixed * np.exp(rng.normal(size=inputs))).astype(np.float32)
    return x.T @ x / np.float32(samples)


def start(values, mode, group_size=16):
    """The weight rounded to nearest: compressed tensor, axes, matrices."""
    scheme = SCHEMES[mode]
    size = scheme.fixed_group_size or group_size
    tensor = compress(
        values,
        scheme,
        reduction_axes=1,
        group_axis=1,
        group_size=size,
        codebook=CODEBOOK if mode == "codebook" else None,
    )
    axes = Axes.of(values.shape, WeightLayout((1,), (0,)))
    return tensor, axes, grouped(tensor, axes)
