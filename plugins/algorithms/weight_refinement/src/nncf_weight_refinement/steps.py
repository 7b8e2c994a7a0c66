"""What each algorithm does to one weight."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
from attrs import evolve

from nncf_core.advanced import AdvancedGPTQParameters, AdvancedScaleEstimationParameters
from nncf_core.refining import PlannedWeight
from nncf_weight_refinement.descent import descend
from nncf_weight_refinement.factors import factorize
from nncf_weight_refinement.layers import Layer
from nncf_weight_refinement.parameters import ErrorPropagationSettings, RefinementSettings, ScaleSearchSettings
from nncf_weight_refinement.propagation import shifted_target
from nncf_weight_refinement.rounding import round_with_feedback
from nncf_weight_refinement.scale_search import FINE, Sweep, search_scales


def scale_search(layer: Layer, params: ScaleSearchSettings, executor: Executor | None) -> PlannedWeight:
    """Scales by the mean squares of inputs; by the weights alone where these are not known."""
    importance = layer.statistics.get("mean_square")
    found = search_scales(layer.target, layer.weight, importance, Sweep(params.steps), executor)
    return layer.refined(found, "scales searched" + ("" if importance is None else " for what inputs weigh"))


def scale_estimation(
    layer: Layer, params: AdvancedScaleEstimationParameters, executor: Executor | None
) -> PlannedWeight:
    """Scales by the Gram matrices of groups."""
    gram = layer.statistics.get("gram")
    if gram is None:
        return layer.planned
    target, weight = layer.target, layer.weight
    if params.weight_penalty > 0:
        gram = gram + np.float32(params.weight_penalty / weight.group_size) * np.eye(len(gram), dtype=np.float32)
    sweep = Sweep(params.scale_steps + 3, polish=params.initial_steps)
    found = search_scales(target, weight, np.diagonal(gram), sweep, executor)
    if weight.group_size < target.shape[2]:
        found = search_scales(target, found, gram, FINE, executor)
    return layer.refined(found, "scales estimated")


def gptq(layer: Layer, params: AdvancedGPTQParameters, executor: Executor | None) -> PlannedWeight:
    """Rounding with feedback, under scales that fit the target."""
    gram = layer.statistics.get("gram")
    if gram is None:
        return layer.planned
    target = layer.target
    start = search_scales(target, layer.weight, np.diagonal(gram), executor=executor)
    factor = factorize(gram, start.group_size, params.damp_percent)
    return layer.refined(round_with_feedback(target, start, factor), "GPTQ")


def error_propagation(layer: Layer, params: ErrorPropagationSettings, executor: Executor | None) -> PlannedWeight:
    """Another target, and the nearest codes under the scales that there are; searches for others come behind."""
    gram, cross = layer.statistics.get("gram"), layer.statistics.get("cross_gram")
    if gram is None or cross is None:
        return layer.planned
    target = shifted_target(layer.target, gram, cross, params.strength, params.damping)
    refined = layer.refined(layer.weight.rounded(target), "makes up for layers before")
    return evolve(refined, target=layer.axes.restore(target))


def refinement(layer: Layer, params: RefinementSettings, executor: Executor | None) -> PlannedWeight:
    """Descent from the codes so far."""
    gram = layer.statistics.get("gram")
    if gram is None:
        return layer.planned
    damped = gram + np.float32(params.damping * float(np.diagonal(gram).mean())) * np.eye(len(gram), dtype=np.float32)
    found = descend(layer.target, layer.weight, damped, params.sweeps, params.seconds)
    return layer.refined(found, "refined")
