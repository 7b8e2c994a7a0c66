"""The conformance kit: what a plugin is expected to do, as tests that its author runs.

A backend::

    # test_my_backend.py                                    $ pytest test_my_backend.py
    from nncf_core.testing import BackendConformance, ModelCase

    def make(weights):                                      # a model of the framework, with these weights
        return my_framework.Model(...)

    class TestMyBackend(BackendConformance):
        framework = "my_framework"

        def cases(self):
            weights = {"fc.weight": rng.normal(size=(64, 32)).astype("float32")}
            feeds = [{"x": rng.normal(size=(1, 64)).astype("float32")} for _ in range(4)]
            return [ModelCase("one layer", make, weights, feeds)]

An algorithm, which needs no framework: it runs on the models of :mod:`nncf_core.testing.numpy_backend`::

    class TestMyAlgorithm(AlgorithmConformance):
        algorithm = "my_algorithm"

        def sections(self):                                 # config sections to try it with
            return [{}, {"k": 2.5}]

Without pytest: ``python -m nncf_core.testing test_my_backend:TestMyBackend``, or :func:`check` in a script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf_core.testing.algorithms import AlgorithmConformance
    from nncf_core.testing.backends import BackendConformance
    from nncf_core.testing.cases import ModelCase
    from nncf_core.testing.suite import ConformanceError, Outcome, check, registered

__all__ = [
    "AlgorithmConformance",
    "BackendConformance",
    "ConformanceError",
    "ModelCase",
    "Outcome",
    "check",
    "registered",
]

__getattr__, __dir__ = lazy_module(
    __name__,
    {
        "AlgorithmConformance": "nncf_core.testing.algorithms",
        "BackendConformance": "nncf_core.testing.backends",
        "ConformanceError": "nncf_core.testing.suite",
        "ModelCase": "nncf_core.testing.cases",
        "Outcome": "nncf_core.testing.suite",
        "check": "nncf_core.testing.suite",
        "registered": "nncf_core.testing.suite",
    },
    {},
)
