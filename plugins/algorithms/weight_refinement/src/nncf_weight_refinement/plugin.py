"""Entry point of the plugin."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import Algorithm
from nncf_core.hookspecs import hookimpl

NNCF_HOOK_API = 1


@hookimpl
def nncf_algorithms() -> Iterable[Algorithm]:
    """Algorithms that improve codes and scales of compressed weights."""
    from nncf_weight_refinement.algorithms import ALGORITHMS
    from nncf_weight_refinement.lora import LoraCorrection

    return [algorithm() for algorithm in (*ALGORITHMS, LoraCorrection)]
