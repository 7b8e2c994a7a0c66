"""Scale estimation leaves less error than the method of this name whose parameters it has."""

from __future__ import annotations

import numpy as np
import pytest

from nncf_core.advanced import AdvancedScaleEstimationParameters
from nncf_core.graph import Constant, WeightLayout
from nncf_core.refining import CompressionRequest, PlannedConstant, PlannedWeight
from nncf_core.transformations import CompressConstant
from nncf_weight_refinement.grouped import grouped
from nncf_weight_refinement.layers import Layer
from nncf_weight_refinement.parameters import ScaleSearchSettings
from nncf_weight_refinement.steps import scale_estimation, scale_search
from tests.algorithms.weight_refinement import slow_twin
from tests.algorithms.weight_refinement.objective import loss
from tests.algorithms.weight_refinement.weights import start, weight

GROUP = 32


def inputs(seed=3):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(400, 64)) @ rng.normal(size=(64, 64)) / 8
    return (mixed * np.exp(rng.normal(size=64))).astype(np.float32)


def layer(values, mode, x):
    tensor, axes, _ = start(values, mode, GROUP)
    constant = Constant("w", "float32", values.shape, lambda: values)
    request = CompressionRequest(mode, tensor.format.name, 1, GROUP)
    plan = PlannedConstant(constant, WeightLayout((1,), (0,)), request)
    return Layer(
        (PlannedWeight(plan, CompressConstant("w", tensor)),),
        (tensor,),
        (axes,),
        {"gram": x.T @ x / np.float32(len(x)), "mean_square": np.square(x).mean(axis=0)},
    )


def blocks(gram):
    """The Gram matrix as if inputs of different groups had nothing to do with each other."""
    return gram * np.kron(np.eye(len(gram) // GROUP), np.ones((GROUP, GROUP)))


@pytest.mark.parametrize("mode", ["int4_asym", "int4_sym", "int2_sym"])
def test_against_the_documented_method(mode):
    values, x = weight(16), inputs()
    made = layer(values, mode, x)
    searched = scale_search(made, ScaleSearchSettings(products=True))
    estimated = scale_estimation(made, AdvancedScaleEstimationParameters())
    first = made.weight
    zero_point = np.zeros_like(first.scale) if first.zero_point is None else first.zero_point
    documented = slow_twin.scale_estimation(
        values.astype(float),
        x.T.astype(float),
        first.scale[0].astype(float),
        zero_point[0],
        first.lattice.lo,
        first.lattice.hi,
    )
    metric = blocks(made.statistics["gram"])
    losses = [
        loss(made.target, grouped(each.edit.tensor, made.axes[0]).values(), metric) for (each,) in (searched, estimated)
    ]
    assert losses[0] < 0.97 * documented
    assert losses[1] < documented
    assert documented < loss(made.target, first.values(), metric)


def test_the_penalty_holds_weights_to_their_values():
    values, x = weight(16), inputs()
    made = layer(values, "int3_sym", x)

    def distance(penalty):
        (found,) = scale_estimation(made, AdvancedScaleEstimationParameters(weight_penalty=penalty))
        return loss(made.target, grouped(found.edit.tensor, made.axes[0]).values(), None)

    assert distance(1e6) < distance(-1.0)
