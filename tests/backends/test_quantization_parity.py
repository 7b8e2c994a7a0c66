"""One network, with the same data and settings, gets the same quantizers and ranges in all three frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from attrs import frozen

import nncf
from nncf.quantization.advanced_parameters import QuantizationParameters, QuantizationScheme
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from nncf_core.graph import Graph, Node, OpKind
from tests.backends.digits import converted, convolutions, images, transformer

FRAMEWORKS = ("onnx", "openvino", "torch")

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "without zero points": {"preset": nncf.QuantizationPreset.PERFORMANCE},
    "extremes": {"activations_range_estimator_params": RangeEstimatorParametersSet.MINMAX},
    "medians": {"activations_range_estimator_params": RangeEstimatorParametersSet.MEDIAN_MINMAX},
    # not quantiles of activations: one of the quantizers stands before a pool in ONNX, behind it in the others
    "without outliers": {
        "activations_range_estimator_params": RangeEstimatorParametersSet.MEAN_NO_OUTLIERS_MINMAX,
        "weights_range_estimator_params": RangeEstimatorParametersSet.MEAN_QUANTILE,
    },
    "least error": {"activations_range_estimator_params": RangeEstimatorParametersSet.HISTOGRAM},
    "half of the range": {"overflow_fix": nncf.OverflowFix.ENABLE},
    "weights with zero points": {
        "weights_quantization_params": QuantizationParameters(mode=QuantizationScheme.ASYMMETRIC)
    },
}

CHANGES_NO_RANGE = {
    "Reshape", "Transpose", "MaxPool", "DequantizeLinear", "reshape", "flatten", "transpose", "max_pool2d",
}  # fmt: skip
"""What lies between a layer and the quantizer of its operand: on its way an operand keeps its range."""


@frozen(eq=False)
class Layer:
    """A layer that integers are computed with.

    :param low: smallest number that the quantizer of its operand represents.
    :param high: largest number.
    :param codes: integers of the weight ``[outputs, inputs]``.
    :param scale: one for each output.
    """

    low: float
    high: float
    codes: np.ndarray
    scale: np.ndarray


@cache
def network(name: str, framework: str) -> tuple[Any, list[Any]]:
    """A model and data for it."""
    x = images()[0][:24]
    if name == "transformer":
        x = (x.flatten(1) * 16).long()
    items = list(x.split(1))
    model = converted(convolutions() if name == "convolutions" else transformer(), items[0], framework)
    return model, items if framework == "torch" else [item.numpy() for item in items]


def quantized(name: str, framework: str, settings: Mapping[str, Any]) -> tuple[Any, Graph]:
    """The quantized model and its graph."""
    model, items = network(name, framework)
    given = {key: value for key, value in settings.items() if key == "preset"}
    # onnxruntime leaves layers in floating point whose results leave the model
    advanced = {"quantize_outputs": True, **{key: value for key, value in settings.items() if key not in given}}
    if name == "convolutions":
        # only onnxruntime quantizes results, whose channels are evened out, too
        advanced["smooth_quant_alphas"] = nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
    parameters = nncf.AdvancedQuantizationParameters(**advanced)
    result = nncf.quantize(model, nncf.Dataset(items), advanced_parameters=parameters, **given)
    return result, nncf.build_graph(result, example_input=items[0] if framework == "torch" else None)


def range_of(graph: Graph, node: Node) -> tuple[float, float]:
    """What a quantizer represents."""
    parts = [graph.constants[str(port.constant)].read().item() for port in node.inputs[1:]]
    if node.op_type == "FakeQuantize":
        assert parts[:2] == parts[2:]
        return parts[0], parts[1]
    scale, zero_point = parts
    # integers of 8 bits; without zero points PyTorch has signed ones
    lo = -128 if node.op_type == "fake_quantize" and zero_point == 0 and below_zero(graph, node) else 0
    return (lo - zero_point) * scale, (lo + 255 - zero_point) * scale


def below_zero(graph: Graph, node: Node) -> bool:
    producer = graph.producer(node.inputs[0].tensor)
    while producer is not None and producer.op_type in CHANGES_NO_RANGE:
        producer = graph.producer(producer.inputs[0].tensor)
    return producer is not None and "relu" not in producer.op_type


def quantizer_before(graph: Graph, node: Node) -> Node:
    """The quantizer of a layer's operand."""
    operand = next(port for port in node.inputs if port.constant is None)
    producer = graph.producer(operand.tensor)
    while producer is not None and producer.op_type in CHANGES_NO_RANGE:
        producer = graph.producer(producer.inputs[0].tensor)
    assert producer is not None, f"{node.name} has an operand that is not quantized"
    assert producer.kind is OpKind.QUANTIZE, f"before {node.name} there is {producer.op_type}"
    return producer


def layers_of(graph: Graph) -> list[Layer]:
    """In the order in which they run."""
    found = []
    for node in graph:
        for _, port in node.weights:
            constant = graph.constants[str(port.constant)]
            if constant.compressed is None:
                continue
            tensor = constant.compressed()
            kept = [axis for axis in range(len(tensor.shape)) if axis not in tensor.reduction_axes]
            order = [*kept, *tensor.reduction_axes]
            dtype = np.int8 if tensor.format.signed else np.uint8
            codes = tensor.codes.view(dtype).reshape(tensor.shape).transpose(order)
            scale = tensor.scale.astype(np.float32).reshape(-1)  # groups are an axis of their own in OpenVINO
            low, high = range_of(graph, quantizer_before(graph, node))
            found.append(Layer(low, high, codes.reshape(scale.size, -1).astype(int), scale))
    return found


def is_among(layer: Layer, others: Sequence[Layer]) -> bool:
    """Whether a layer has the weights of one of the others."""
    return any(
        other.scale.shape == layer.scale.shape and np.allclose(other.scale, layer.scale, rtol=1e-3) for other in others
    )


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("name", "count", "paying"), [("convolutions", 8, 5), ("transformer", 19, 19)])
def test_the_same_layers_get_the_same_ranges(name: str, count: int, paying: int, settings: str) -> None:
    layers = {framework: layers_of(quantized(name, framework, SETTINGS[settings])[1]) for framework in FRAMEWORKS}
    # onnxruntime computes small layers faster in floating point
    assert [len(found) for found in layers.values()] == [paying, count, count]
    here = [index for index, layer in enumerate(layers["torch"]) if is_among(layer, layers["onnx"])]
    for framework in ("openvino", "torch"):
        layers[framework] = [layers[framework][index] for index in here]
    for trio in zip(*layers.values(), strict=True):
        first = trio[0]
        for other in trio[1:]:
            width = first.high - first.low
            assert other.low == pytest.approx(first.low, abs=1e-4 * width)
            assert other.high == pytest.approx(first.high, abs=1e-4 * width)
            np.testing.assert_allclose(other.scale, first.scale, rtol=1e-5)
            # normalization is folded by three programs: a number between two integers may go either way
            assert np.abs(other.codes - first.codes).max() <= 1
            assert (other.codes != first.codes).mean() < 1e-3


@pytest.mark.parametrize("name", ["convolutions", "transformer"])
def test_quantizers_of_pytorch_stand_where_those_of_openvino_do(name: str) -> None:
    placed = {}
    for framework in ("openvino", "torch"):
        graph = quantized(name, framework, {})[1]
        nodes = [node for node in graph if node.kind is OpKind.QUANTIZE]
        placed[framework] = [(around(graph, node), range_of(graph, node)) for node in nodes]
    assert len(placed["torch"]) == len(placed["openvino"])
    for (here, found), (there, wanted) in zip(placed["torch"], placed["openvino"], strict=True):
        assert here == there
        assert found == pytest.approx(wanted, abs=1e-4 * (wanted[1] - wanted[0]))


def around(graph: Graph, node: Node) -> tuple[bool, Sequence[str]]:
    """Whether a quantizer stands at an input of the model, and kinds of the operators behind it."""
    before = graph.producer(node.inputs[0].tensor)
    kinds = sorted(user.kind.value for user in graph.consumers(node.outputs[0].tensor))
    return before is None or before.kind is OpKind.INPUT, kinds


@pytest.mark.parametrize("name", ["convolutions", "transformer"])
def test_outputs_are_the_same_up_to_rounding(name: str) -> None:
    model, _ = quantized(name, "torch", {})
    program, _ = quantized(name, "openvino", {})
    x = images()[2][:16]
    x = (x.flatten(1) * 16).long() if name == "transformer" else x
    compiled = openvino.compile_model(program, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        wanted = model(x).numpy()
    found = np.concatenate([compiled([item.numpy()])[0] for item in x.split(1)])
    # a tensor that lies between two integers may go either way, which changes a result by a fraction of a step
    assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)
