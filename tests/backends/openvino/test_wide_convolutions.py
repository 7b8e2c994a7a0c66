"""Convolutions of few output channels that compute several positions at a time, while statistics are collected."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13

from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import TargetPoint
from nncf_openvino.builder import OpenVINOGraphBuilder
from nncf_openvino.statistics_aggregator import OpenVINOStatisticsAggregator
from nncf_openvino.wide_convolutions import widen

RANDOM = np.random.default_rng(4)


def network(
    kernel: tuple[int, ...],
    size: tuple[int, ...],
    strides: tuple[int, int] = (1, 1),
    begins: tuple[int, int] = (0, 0),
    ends: tuple[int, int] = (0, 0),
    dilations: tuple[int, int] = (1, 1),
) -> ov.Model:
    """A convolution with a bias and two activations, and what leaves the model before and behind a mean."""
    x = opset13.parameter([-1, *size], np.float32, "x")
    weight = RANDOM.normal(0, 0.2, kernel).astype(np.float32)
    layer = opset13.convolution(x, opset13.constant(weight), strides, begins, ends, dilations, name="layer")
    bias = opset13.constant(RANDOM.normal(size=(1, kernel[0], 1, 1)).astype(np.float32))
    last = opset13.sigmoid(opset13.relu(opset13.add(bias, layer)), name="last")
    mean = opset13.reduce_mean(last, np.array([2, 3]), name="mean")
    return ov.Model([opset13.result(last), opset13.result(mean)], [x], "narrow")


def outputs(model: ov.Model, x: np.ndarray) -> list[np.ndarray]:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [np.array(array) for array in compiled([x]).to_tuple()]


def kernels(model: ov.Model) -> list[tuple[int, ...]]:
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    return [tuple(node.input_value(1).get_node().shape) for node in nodes]


@pytest.mark.parametrize(
    ("kernel", "size", "more", "wanted"),
    [
        ((1, 8, 5, 5), (8, 23, 31), {"begins": (2, 2), "ends": (2, 2)}, (16, 8, 8, 8)),
        ((8, 8, 3, 39), (8, 12, 51), {"begins": (1, 19), "ends": (1, 19)}, (16, 8, 3, 40)),
        ((2, 4, 9, 9), (4, 40, 61), {"strides": (2, 3), "begins": (0, 1)}, None),
        ((1, 1, 1, 64), (1, 1, 301), {"strides": (1, 2)}, (16, 1, 1, 94)),
    ],
)
def test_results_are_what_they_were(
    kernel: tuple[int, ...], size: tuple[int, ...], more: dict[str, Any], wanted: tuple[int, ...] | None
) -> None:
    model = network(kernel, size, **more)
    made = model.clone()
    assert widen(made) == 1
    assert kernels(made) != [kernel]
    assert wanted is None or kernels(made) == [wanted]
    x = RANDOM.normal(size=(2, *size)).astype(np.float32)
    for found, before in zip(outputs(made, x), outputs(model, x), strict=True):
        assert found.shape == before.shape
        np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "channels", "more"),
    [
        ((16, 8, 5, 5), 8, {}),  # the kernel is full
        ((1, 64, 1, 1), 64, {}),  # every position would be computed anew
        ((8, 8, 3, 3), 8, {}),  # moving the result takes as long
        ((1, 8, 5, 5), 8, {"dilations": (2, 2)}),
    ],
)
def test_others_stay(kernel: tuple[int, ...], channels: int, more: dict[str, Any]) -> None:
    model = network(kernel, (channels, 20, 20), **more)
    assert widen(model) == 0
    assert kernels(model) == [kernel]


def test_statistics_speak_of_the_model_as_it_is() -> None:
    model = network((1, 8, 5, 5), (8, 20, 20))
    builder = OpenVINOGraphBuilder()
    working = builder.open(model, {})
    graph = builder.build(working)
    requests = [
        StatisticsRequest(TargetPoint(node), kind, axis)
        for node in ("layer", "last")
        for kind, axis in (("mean_max", None), ("mean", 1), ("min", None))
    ]
    samples = [RANDOM.normal(size=(1, 8, 20, 20)).astype(np.float32) for _ in range(3)]
    found = OpenVINOStatisticsAggregator().collect(working, graph, requests, samples)
    assert kernels(working.model) == [(1, 8, 5, 5)]
    layer = next(node for node in model.get_ordered_ops() if node.get_friendly_name() == "layer")
    plain = ov.Model([layer.output(0), model.output(0)], model.get_parameters(), "plain")
    seen = [outputs(plain, x) for x in samples]
    for index, node in enumerate(("layer", "last")):
        arrays = np.stack([each[index] for each in seen])
        target = TargetPoint(node)
        highest = arrays.reshape(3, -1).max(axis=1).mean()
        np.testing.assert_allclose(found[StatisticsRequest(target, "mean_max")], highest, rtol=1e-5)
        np.testing.assert_allclose(found[StatisticsRequest(target, "min")], arrays.min(), rtol=1e-5)
        np.testing.assert_allclose(found[StatisticsRequest(target, "mean", 1)], [arrays.mean()], rtol=1e-5)
