"""A backend and an algorithm that write down what the pipeline asks of them."""

import types

import numpy as np
import pytest
from attrs import frozen

from nncf_core.hookspecs import HOOK_API, hookimpl
from nncf_core.statistics import StatisticsRequest
from nncf_core.testing import registered
from nncf_core.testing.numpy_backend import samples
from nncf_core.testing.numpy_backend.aggregator import NumpyStatisticsAggregator
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.numpy_backend.inserter import NumpyTargetPointInserter
from nncf_core.transformations import PointKind, ReplaceConstant, TargetPoint

CASE = samples.perceptron()
POINT = TargetPoint("last/matmul", PointKind.INPUT, 0)
MAX = StatisticsRequest(POINT, "abs_max")


class Recorder:
    """A backend that writes down what it is asked."""

    def __init__(self, aggregator=True, refused=frozenset()):
        self.calls = calls = []

        class Builder(NumpyGraphBuilder):
            def open(self, source, options):
                calls.append(("open", dict(options)))
                return super().open(source, options)

            def build(self, model):
                calls.append(("build",))
                return super().build(model)

        class Inserter(NumpyTargetPointInserter):
            def refusal(self, graph, constant, request, options):
                calls.append(("refusal", constant.name, dict(options)))
                return super().refusal(graph, constant, request, options)

            def apply(self, model, graph, transformations, options):
                calls.append(("apply", dict(options)))
                return super().apply(model, graph, transformations, options)

        class Aggregator(NumpyStatisticsAggregator):
            def collect(self, model, graph, requests, inputs):
                items = list(inputs)
                calls.append(("collect", tuple(requests), len(items)))
                return super().collect(model, graph, requests, items)

        self.plugin = module(
            nncf_graph_builders=[Builder()],
            nncf_target_point_inserters=[Inserter(refused)],
            nncf_statistics_aggregators=[Aggregator()] if aggregator else [],
        )

    def named(self, name):
        return [call for call in self.calls if call[0] == name]


@frozen
class Parameters:
    factor: float = 2.0
    rounds: int = 1
    data: bool = False
    subset_size: int | None = None


class Scale:
    """Multiplies the weight ``last``; the parameters are written down with what it was given."""

    parameters = Parameters

    def __init__(self, name="scale"):
        self.name, self.seen = name, []

    def schema(self):
        properties = {"factor": {"type": "number"}, "rounds": {"type": "integer"}, "data": {"type": "boolean"}}
        return {"type": "object", "properties": {**properties, "subset_size": {"type": "integer"}}}

    def rounds(self, graph, params):
        return params.rounds

    def requests(self, graph, params, context, round_index):
        return [MAX, MAX] if params.data else []

    def transformations(self, graph, statistics, params, context, round_index):
        self.seen.append((round_index, graph, statistics, params, context))
        constant = graph.constants["last"]
        yield ReplaceConstant("last", constant.read() * np.float32(params.factor), f"times {params.factor}")


def module(**hooks):
    made = types.ModuleType("a_plugin")
    made.NNCF_HOOK_API = HOOK_API
    for hook, value in hooks.items():
        setattr(made, hook, hookimpl(lambda value=value: value))
    return made


@pytest.fixture
def backend():
    recorder = Recorder()
    with registered(recorder.plugin, "recorder"):
        yield recorder


@pytest.fixture
def scale(backend):
    algorithm, other = Scale(), Scale("other")
    with registered(module(nncf_algorithms=[algorithm, other]), "algorithms"):
        algorithm.other = other
        yield algorithm


def config(*sections, **top):
    return {"compression": [{"algorithm": "scale", **section} for section in sections], **top}


def last_of(result):
    return result.model.constants["last"]
