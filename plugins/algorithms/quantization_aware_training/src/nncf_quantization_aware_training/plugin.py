"""Entry point of the plugin."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import Algorithm
from nncf_core.hookspecs import hookimpl

NNCF_HOOK_API = 1


@hookimpl
def nncf_algorithms() -> Iterable[Algorithm]:
    """Quantization-aware training, and the same by its other name."""
    from nncf_quantization_aware_training.algorithm import NAMES, QuantizationAwareTraining

    return [QuantizationAwareTraining(name) for name in NAMES]
