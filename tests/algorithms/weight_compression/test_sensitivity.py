"""Mixed precision by what layers take: over the backends, against a numpy twin that sees a PyTorch module alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")
pytest.importorskip("nncf_openvino")
pytest.importorskip("nncf_torch")

import torch
from torch import nn

import nncf
from nncf import SensitivityMetric as Metric
from nncf_core.api import compress_weights_config
from nncf_core.contracts import Context
from nncf_core.graph import Graph, Node, OpKind, Port
from nncf_core.pipeline import make_plan
from nncf_core.refining import layer_inputs
from nncf_core.statistics import Statistics
from nncf_core.transformations import PointKind
from nncf_weight_compression.algorithm import WeightCompression
from nncf_weight_compression.mixed_precision import requests_for, sensitivities
from nncf_weight_compression.parameters import WeightCompressionParameters
from nncf_weight_compression.selection import Weight
from tests.algorithms.post_training_quantization.frameworks import FRAMEWORKS, network, outputs
from tests.algorithms.weight_compression.graphs import MATMUL, ROWS, constant, graph, language_model, random, weighted

frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)
INT4 = nncf.CompressWeightsMode.INT4_SYM


class Network(nn.Module):
    """Seven products whose inputs and weights are all different, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64, bias=index % 2 == 0) for index in range(7))
        self.head = nn.Linear(64, 10)
        for index, layer in enumerate(self.layers):
            # the order of no metric is that of the layers
            nn.init.normal_(layer.weight, std=(1, 1.6, 0.8, 1.3, 0.9, 2, 1.1)[index] / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, rows, 64]."""
        for index, layer in enumerate(self.layers):
            y = layer(x * (1, 0.2, 3, 0.5, 4, 0.1, 1)[index])
            x = torch.tanh(y * (3, 1, 1, 4, 1, 2, 1)[index]) + (0, 2, 0.5, 0, 3, 1, 0)[index]
        result: torch.Tensor = self.head(x)
        return result


@cache
def float_network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network().eval()


@cache
def samples(count: int = 6) -> tuple[np.ndarray, ...]:
    r = np.random.default_rng(0)
    return tuple((r.normal(0, 1 + i, (1, 12, 64)) * r.exponential(1, 64)).astype(np.float32) for i in range(count))


def int8_error(weight: np.ndarray) -> np.ndarray:
    """What INT8 per row loses."""
    lo, hi = weight.min(1, keepdims=True).clip(max=0), weight.max(1, keepdims=True).clip(min=0)
    scale = (hi - lo) / 255
    zero = np.rint(-lo / scale).clip(0, 255)
    return (np.rint(weight / scale + zero).clip(0, 255) - zero) * scale - weight


def twin(metric: Metric, arrays: Sequence[np.ndarray]) -> list[float]:
    """Scores of the layers, from the formulas."""
    taken: dict[int, list[np.ndarray]] = {}
    model = float_network()
    hooks = [
        layer.register_forward_hook(lambda _, inputs, __, i=i: taken.setdefault(i, []).append(inputs[0].numpy()))
        for i, layer in enumerate(model.layers)
    ]
    with torch.no_grad():
        for array in arrays:
            model(torch.from_numpy(array))
    for hook in hooks:
        hook.remove()
    looks = {
        Metric.WEIGHT_QUANTIZATION_ERROR: lambda x: 1.0,
        Metric.HESSIAN_INPUT_ACTIVATION: lambda x: 2 * np.linalg.norm(x.ravel()) ** 2 / x.size,
        Metric.MEAN_ACTIVATION_VARIANCE: lambda x: x.var(axis=-2).mean(),
        Metric.MAX_ACTIVATION_VARIANCE: lambda x: x.var(axis=-2).max(),
        Metric.MEAN_ACTIVATION_MAGNITUDE: lambda x: np.abs(x).max(axis=-2).mean(),
    }
    scores = []
    for index, layer in enumerate(model.layers):
        error = int8_error(layer.weight.detach().double().numpy())
        hessian = metric is Metric.HESSIAN_INPUT_ACTIVATION
        own = np.linalg.norm(error) if hessian else 1 / ((error**2).mean(axis=1).max() + np.finfo(np.float32).eps)
        scores.append(own * np.mean([looks[metric](x.astype(np.float64)) for x in taken[index]]))
    return scores


def low(model: Any, items: Sequence[Any], **arguments: Any) -> list[int]:
    """Which of the layers, in the order of the model, get four bits."""
    dataset = nncf.Dataset(items) if items else None
    plan, _ = make_plan(compress_weights_config(mode=INT4, group_size=32, **arguments), model, dataset=dataset)
    compressed = [entry for entry in plan.entries if entry.action == "compress"]
    assert len(compressed) == 8
    return [index for index, entry in enumerate(compressed) if entry.format == "int4"]


@frameworks
def test_the_least_sensitive_layers_get_four_bits(framework: str) -> None:
    model, items = network(float_network(), samples(), framework)
    seen = set()
    for metric in Metric:
        order = np.argsort(twin(metric, samples()))
        for ratio, count in ((0.3, 2), (0.6, 4), (0.8, 5)):
            found = low(model, items, ratio=ratio, sensitivity_metric=metric)
            assert found == sorted(order[:count])
            seen.add(tuple(found))
    assert len(seen) >= 6  # the metrics do not agree


@frameworks
def test_data_changes_the_default(framework: str) -> None:
    model, items = network(float_network(), samples(), framework)
    default = low(model, items, ratio=0.5)
    assert default == sorted(np.argsort(twin(Metric.MAX_ACTIVATION_VARIANCE, samples()))[:3])
    if framework != "torch":  # it needs an example to trace
        data_free = sorted(np.argsort(twin(Metric.WEIGHT_QUANTIZATION_ERROR, samples()))[:3])
        assert low(model, (), ratio=0.5) == data_free != default


def test_a_part_of_the_samples() -> None:
    model, items = network(float_network(), samples(), "onnx")
    metric = Metric.MEAN_ACTIVATION_MAGNITUDE
    wanted = sorted(np.argsort(twin(metric, samples()[:1]))[:4])
    assert low(model, items, ratio=0.6, sensitivity_metric=metric, subset_size=1) == wanted


@pytest.mark.parametrize("ratio", [0.0, 1.0, None])
def test_no_statistics_where_nothing_is_to_choose(ratio: float | None) -> None:
    model, _ = network(float_network(), samples(), "onnx")
    more = {} if ratio is None else {"ratio": ratio}
    found = low(model, (), sensitivity_metric=Metric.HESSIAN_INPUT_ACTIVATION, **more)
    assert found == ([] if ratio == 0 else list(range(7)))


def test_a_metric_that_needs_data_says_so() -> None:
    model, _ = network(float_network(), samples(), "onnx")
    with pytest.raises(nncf.UnsupportedDatasetError, match=r"variance needs calibration data.*weight_quant"):
        low(model, (), ratio=0.5, sensitivity_metric=Metric.MEAN_ACTIVATION_VARIANCE)


@pytest.mark.parametrize("framework", ["onnx", "openvino", "torch"])
def test_statistics_in_files_replace_the_dataset(framework: str, tmp_path: Path) -> None:
    model, items = network(float_network(), samples(), framework)
    advanced = nncf.AdvancedCompressionParameters(statistics_path=str(tmp_path))
    arguments = {"ratio": 0.5, "advanced_parameters": advanced}
    first = low(model, items, **arguments)
    assert [file.name for file in tmp_path.iterdir()] == ["weight_compression-0.npz"]
    # for torch: an example to trace; fewer items than the statistics are of
    if framework == "torch":
        with pytest.raises(nncf.StatisticsCacheError, match="subset_size"):
            low(model, items[:1], subset_size=1, **arguments)
        second = low(model, items, **arguments)
    else:
        second = low(model, (), **arguments)
    assert second == first == sorted(np.argsort(twin(Metric.MAX_ACTIVATION_VARIANCE, samples()))[:3])


def test_the_model_runs() -> None:
    model, items = network(float_network(), samples(), "openvino")
    done = nncf.compress_weights(model, mode=INT4, ratio=0.5, group_size=32, dataset=nncf.Dataset(items))
    wanted, found = outputs(model, samples()), outputs(done, samples())
    assert np.abs(found - wanted).max() < 0.3 * np.abs(wanted).max()


@pytest.mark.parametrize(
    "arguments", [{"ratio": 0.5}, {"ratio": 0.7, "sensitivity_metric": Metric.HESSIAN_INPUT_ACTIVATION}]
)
def test_what_is_planned_is_what_is_done(arguments: dict[str, Any]) -> None:
    x = {f"layer{i}.in": random(1, 5, 64, seed=i, scale=1 + i % 3) for i in range(4)}
    model, algorithm = language_model(), WeightCompression()
    params = WeightCompressionParameters(mode=INT4, group_size=32, **arguments)
    context, statistics = Context(has_data=True), Statistics()
    for request in algorithm.requests(model, params, context, 0):
        tensor = model.node(request.target.node).inputs[request.target.port].tensor
        statistics.aggregator(request).update(x[tensor])
    planned = algorithm.planned(model, statistics, params, context)
    edits = list(algorithm.transformations(model, statistics, params, context, 0))
    assert [plan.constant.name for plan in planned] == [edit.constant for edit in edits]
    for plan, edit in zip(planned, edits, strict=True):
        tensor = edit.tensor
        found = (tensor.format.name, tensor.group_axis, tensor.group_size)
        assert (plan.request.format, plan.request.group_axis, plan.request.group_size) == found
    assert {plan.request.format for plan in planned} == {"int4", "uint8"}


def scores(model: Graph, weights: Sequence[Weight], metric: Metric, x: dict[str, np.ndarray]) -> dict[str, float]:
    """Scores when a tensor has one sample."""
    statistics = Statistics()
    for request in requests_for(weights, metric, model):
        node = model.node(request.target.node)
        assert request.target.kind is PointKind.INPUT
        statistics.aggregator(request).update(x[node.inputs[request.target.port].tensor])
    return sensitivities(weights, metric, model, statistics, Context())


def test_a_weight_of_several_layers_counts_by_the_most_sensitive() -> None:
    model = graph([weighted("a", "w"), weighted("b", "w")], {"w": random(8, 4)})
    weight = Weight(model.constants["w"], model.node("a"), MATMUL)
    x = {"a.in": random(1, 5, 8), "b.in": random(1, 5, 8, seed=1, scale=10)}
    alone = graph([weighted("b", "w")], {"w": random(8, 4)})
    for metric in (Metric.MAX_ACTIVATION_VARIANCE, Metric.HESSIAN_INPUT_ACTIVATION):
        own = scores(alone, [Weight(alone.constants["w"], alone.node("b"), MATMUL)], metric, x)
        assert scores(model, [weight], metric, x) == pytest.approx(own)


def test_embeddings_are_not_sensitive() -> None:
    model = graph(
        [weighted("e", "table", OpKind.EMBEDDING, ROWS), weighted("a", "w")], {"table": random(9, 8), "w": random(8, 4)}
    )
    weights = [
        Weight(model.constants["table"], model.node("e"), ROWS),
        Weight(model.constants["w"], model.node("a"), MATMUL),
    ]
    found = scores(model, weights, Metric.MEAN_ACTIVATION_VARIANCE, {"a.in": random(1, 5, 8)})
    assert found["table"] == 0 < found["w"]


def test_weights_that_cannot_be_looked_at_are_the_most_sensitive() -> None:
    model = graph([weighted("a", "w", scope=("loop",)), weighted("b", "v")], {"w": random(8, 4), "v": random(8, 4)})
    weights = [Weight(model.constants[n], model.node(k), MATMUL) for n, k in (("w", "a"), ("v", "b"))]
    found = scores(model, weights, Metric.MEAN_ACTIVATION_MAGNITUDE, {"b.in": random(1, 5, 8)})
    assert found["w"] == np.inf > found["v"]


def product(ports: Sequence[Port], **attributes: object) -> tuple[Graph, Weight]:
    node = Node("m", "MatMul", OpKind.MATMUL, tuple(ports), (Port("y"),), attributes=attributes)
    place = next(port for port in ports if port.constant)
    arrays = {port.constant: random(8, 4) for port in ports if port.constant}
    made = Graph("by hand", (node,), {name: constant(name, array) for name, array in arrays.items()})
    assert place.layout is not None
    assert place.constant is not None
    return made, Weight(made.constants[place.constant], node, place.layout)


X, W, BIAS = Port("x"), Port("w", constant="w", layout=MATMUL), Port("b")


@pytest.mark.parametrize(
    ("ports", "attributes", "wanted"),
    [
        ((X, W), {}, ("x", -1)),
        ((X, W), {"transpose_a": True}, ("x", -2)),
        ((X, W), {"transA": 1}, ("x", -2)),
        ((W, X), {}, ("x", -2)),
        ((W, X), {"transpose_b": True}, ("x", -1)),
        ((X, W, BIAS), {}, ("x", -1)),  # Gemm
        ((BIAS, X, W), {}, ("x", -1)),  # addmm
    ],
)
def test_where_the_channels_of_the_input_are(
    ports: Sequence[Port], attributes: dict[str, object], wanted: tuple[str, int]
) -> None:
    model, weight = product(ports, **attributes)
    (found,) = layer_inputs(model, weight.constant.name)
    assert (found.tensor, found.axis) == wanted


def test_an_input_without_rows_is_an_error() -> None:
    model, weight = product((Port("x", shape=(8,)), W))
    with pytest.raises(nncf.ValidationError, match=r"'x' of node 'm' has shape \[8\].*ignored_scope"):
        requests_for([weight], Metric.MAX_ACTIVATION_VARIANCE, model)
    assert len(requests_for([weight], Metric.HESSIAN_INPUT_ACTIVATION, model)) == 1
