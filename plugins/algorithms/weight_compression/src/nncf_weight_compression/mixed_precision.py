"""Which ratio-defining weights keep the primary format when ``ratio`` is below 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial

import numpy as np

from nncf_core.contracts import Context
from nncf_core.numerics.kernels import quantization_error
from nncf_core.numerics.many import map_tensors
from nncf_weight_compression.selection import Weight


def least_sensitive(sensitivities: Mapping[str, float], sizes: Mapping[str, int], ratio: float) -> frozenset[str]:
    """Names with the lowest sensitivity whose elements together are at most ``ratio`` of all.

    They are taken in ascending order of sensitivity (ties in the given order) up to the first that would
    exceed the ratio; so half of four equal weights is two, and ratio 0 is none.
    """
    budget = ratio * sum(sizes.values()) * (1 + 1e-9)
    chosen: list[str] = []
    taken = 0
    for name in sorted(sensitivities, key=lambda n: sensitivities[n]):
        taken += sizes[name]
        if taken > budget:
            break
        chosen.append(name)
    return frozenset(chosen)


def weight_quantization_error(weights: Sequence[Weight], context: Context) -> dict[str, float]:
    """Sensitivity 1 / (E + ε), where E is the INT8 error: the largest mean squared error of any channel.

    A weight that INT8 per channel represents badly gains most from the groups of the primary format, and is
    considered least sensitive to it.
    """
    eps = float(np.finfo(np.float32).eps)
    errors = map_tensors(
        context.executor,
        (
            (
                partial(quantization_error, reduction_axes=weight.layout.reduction_axes, name=weight.constant.name),
                weight.constant.array(),
            )
            for weight in weights
        ),
    )
    result = {}
    shown = context.progress.track(weights, "Sensitivity of weights", len(weights))
    with closing(errors):
        for weight, error in zip(shown, errors, strict=True):
            weight.constant.release()
            result[weight.constant.name] = 1.0 / (error + eps)
    return result
