"""Entry point of the plugin."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import Algorithm
from nncf_core.hookspecs import hookimpl

NNCF_HOOK_API = 1


@hookimpl
def nncf_algorithms() -> Iterable[Algorithm]:
    """Post-training quantization, and channel alignment, which goes before."""
    from nncf_post_training_quantization.algorithm import ChannelAlignment, PostTrainingQuantization

    return [PostTrainingQuantization(), ChannelAlignment()]
