"""Entry point of the plugin."""

from nncf_core.hookspecs import hookimpl

NNCF_HOOK_API = 1


@hookimpl
def nncf_algorithms():
    """Clipping of weights, and smoothing of activations."""
    from weight_clipping.clipping import WeightClipping
    from weight_clipping.smoothing import ActivationSmoothing

    return [WeightClipping(), ActivationSmoothing()]
