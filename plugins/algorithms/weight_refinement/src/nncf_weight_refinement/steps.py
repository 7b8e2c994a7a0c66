"""What each algorithm does to the weights of a layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nncf_core.advanced import AdvancedGPTQParameters, AdvancedScaleEstimationParameters
from nncf_core.refining import PlannedWeight
from nncf_weight_refinement.descent import descend
from nncf_weight_refinement.factors import factorize
from nncf_weight_refinement.layers import Layer
from nncf_weight_refinement.parameters import ErrorPropagationSettings, RefinementSettings, ScaleSearchSettings
from nncf_weight_refinement.propagation import fitting_strength, shifted_target
from nncf_weight_refinement.rounding import round_with_feedback
from nncf_weight_refinement.scale_search import FINE, LITTLE, Sweep, search_scales


def scale_search(layer: Layer, params: ScaleSearchSettings) -> Sequence[PlannedWeight]:
    """Scales by what inputs weigh; by the weights alone where that is not known."""
    gram = layer.statistics.get("gram")
    importance = layer.statistics.get("mean_square") if gram is None else np.diagonal(gram)
    mean, executor = layer.statistics.get("mean"), layer.executor
    sweep = Sweep(params.steps, little=LITTLE)
    found = search_scales(layer.target, layer.weight, importance, sweep, mean, executor)
    if gram is not None and found.group_size < layer.target.shape[2]:
        found = search_scales(layer.target, found, gram, FINE, executor=executor)
    return layer.refined(found, "scales searched" + ("" if importance is None else " for what inputs weigh"))


def scale_estimation(layer: Layer, params: AdvancedScaleEstimationParameters) -> Sequence[PlannedWeight]:
    """The same with the parameters of the reference's method; weights count besides by the penalty."""
    importance = layer.statistics.get("mean_square")
    if importance is None:
        return layer.planned
    if params.weight_penalty > 0:
        importance = importance + params.weight_penalty / layer.weight.group_size
    sweep = Sweep(params.scale_steps + 3, polish=params.initial_steps, little=LITTLE)
    mean = layer.statistics.get("mean")
    found = search_scales(layer.target, layer.weight, importance, sweep, mean, layer.executor)
    return layer.refined(found, "scales estimated")


def gptq(layer: Layer, params: AdvancedGPTQParameters) -> Sequence[PlannedWeight]:
    """Rounding with feedback, under scales that fit the target."""
    gram = layer.statistics.get("gram")
    if gram is None:
        return layer.planned
    target = layer.target
    start = search_scales(target, layer.weight, np.diagonal(gram), executor=layer.executor)
    factor = factorize(gram, start.group_size, params.damp_percent)
    return layer.refined(round_with_feedback(target, start, factor, layer.executor), "GPTQ", settled=True)


def error_propagation(layer: Layer, params: ErrorPropagationSettings) -> Sequence[PlannedWeight]:
    """Another target, and the nearest codes under the scales that there are; searches for others come behind."""
    gram, cross = layer.statistics.get("gram"), layer.statistics.get("cross_gram")
    if gram is None or cross is None:
        return layer.planned
    strength = params.strength
    held_gram, held_cross = layer.held_out.get("gram"), layer.held_out.get("cross_gram")
    if params.adaptive and held_gram is not None and held_cross is not None and layer.share < 1:
        found = fitting_strength(layer.target, gram, cross, held_gram, held_cross, layer.share, params.damping)
        strength = min(strength, found)
    if strength == 0:
        return layer.planned
    target = shifted_target(layer.target, gram, cross, strength, params.damping)
    reason = f"makes up for layers before, strength {strength:.2f}"
    return layer.refined(layer.weight.rounded(target), reason, target)


def refinement(layer: Layer, params: RefinementSettings) -> Sequence[PlannedWeight]:
    """Descent from the codes so far."""
    gram = layer.statistics.get("gram")
    if gram is None:
        return layer.planned
    damped = gram + np.float32(params.damping * float(np.diagonal(gram).mean())) * np.eye(len(gram), dtype=np.float32)
    found = descend(layer.target, layer.weight, damped, params.sweeps, params.seconds, executor=layer.executor)
    return layer.refined(found, "refined", settled=True)
