"""The sample plugins of a third party pass the kit, on each other's ground as well."""

import numpy as np
import pytest

from nncf_core.testing import AlgorithmConformance, BackendConformance, ModelCase
from tests.plugins import samples  # noqa: F401 - makes the sample packages importable

plugin_of_backend = pytest.importorskip("toy.plugin")
plugin_of_algorithms = pytest.importorskip("weight_clipping.plugin")


def network(weights):
    from toy import Layer, Network

    bias = np.linspace(-0.1, 0.1, 8, dtype=np.float32)
    first = Layer("first", weights["first.weight"], np.zeros(32, np.float32))
    return Network([first, Layer("last", weights["last.weight"], bias, relu=False)])


class TestToyBackend(BackendConformance):
    framework = "toy"
    plugin = plugin_of_backend

    def cases(self):
        random = np.random.default_rng(0)
        shapes = {"first.weight": (64, 32), "last.weight": (32, 8)}
        weights = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
        feeds = [{"x": random.normal(0, 1, (3, 64)).astype(np.float32)} for _ in range(3)]
        return [ModelCase("two layers", network, weights, feeds)]


class TestWeightClipping(AlgorithmConformance):
    algorithm = "weight_clipping"
    plugin = plugin_of_algorithms

    def sections(self):
        return [{}, {"k": 1.5}]


class TestActivationSmoothing(AlgorithmConformance):
    algorithm = "activation_smoothing"
    plugin = plugin_of_algorithms

    def sections(self):
        return [{}, {"alpha": 0.75, "subset_size": 2}]
