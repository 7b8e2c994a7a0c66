"""Bias correction layer by layer: against a slow twin that runs the whole model for each, and on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import nncf
from nncf import AdvancedBiasCorrectionParameters, AdvancedQuantizationParameters, AdvancedSmoothQuantParameters
from nncf_core.pipeline import run
from nncf_post_training_quantization.shelf import Shelf
from tests.algorithms.post_training_quantization.frameworks import FRAMEWORKS, network, outputs
from tests.algorithms.post_training_quantization.networks import images, model, random, residual

PLAIN = AdvancedSmoothQuantParameters(matmul=-1)
# of residual(); its depthwise convolution stays in floating point
LAYERS = {"stem": ("c0", "b0"), "first": ("c1", "b1"), "third": ("c3", "b3")}


def quantize(proto: Any, samples: list[Any], *, accurate: bool = True, **advanced: Any) -> Any:
    parameters = AdvancedQuantizationParameters(smooth_quant_alphas=PLAIN, **advanced)
    return nncf.quantize(
        proto,
        nncf.Dataset(samples),
        subset_size=5 * len(samples),
        fast_bias_correction=not accurate,
        advanced_parameters=parameters,
    )


def constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def mean_of(proto: onnx.ModelProto, tensor: str, samples: list[np.ndarray]) -> np.ndarray:
    """The mean of each channel of a tensor, computed as the graph says."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    del copy.graph.output[:]
    copy.graph.output.append(helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    arrays = [session.run(None, {"x": x})[0].astype(np.float64) for x in samples]
    return np.mean([array.mean(axis=(0, 2, 3)) for array in arrays], axis=0)


def test_each_layer_sees_those_before_it_corrected() -> None:
    proto, samples = residual(), images(12)
    twin = quantize(proto, samples, disable_bias_correction=True)
    for tensor, bias in LAYERS.values():
        missing = mean_of(proto, tensor, samples) - mean_of(twin, tensor, samples)
        held = next(t for t in twin.graph.initializer if t.name == bias)
        held.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(held) + missing).astype(np.float32), bias))
    wanted, found = constants(twin), constants(quantize(proto, samples))
    assert found.keys() == wanted.keys()
    for name in found:
        np.testing.assert_allclose(found[name], wanted[name], atol=2e-5, err_msg=name)
    assert any((wanted[bias] != constants(proto)[bias]).any() for _, bias in LAYERS.values())


def test_a_fifth_of_the_samples_is_looked_at() -> None:
    proto, samples = residual(), images(10)
    few = quantize(proto, samples[:2])  # of ten that are asked for, there are two
    dataset = nncf.Dataset([*samples[:2], *(100 * x for x in samples[2:])])
    advanced = AdvancedQuantizationParameters(smooth_quant_alphas=PLAIN)
    more = nncf.quantize(proto, dataset, subset_size=10, fast_bias_correction=False, advanced_parameters=advanced)
    # the others change ranges, and by a hundredfold, but not the samples that means are taken of
    mean = mean_of(proto, "c3", samples[:2])
    for quantized in (few, more):
        np.testing.assert_allclose(mean_of(quantized, "c3", samples[:2]), mean, atol=1e-4)


class Branches(nn.Module):
    """Layers side by side, one that runs twice, one with a bias of zeros, some without a bias, and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(8, 32, 3, padding=1)
        self.left, self.right = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=2)
        self.bare, self.twice = nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.Conv2d(32, 32, 3, padding=1)
        self.up = nn.ConvTranspose2d(32, 8, 2, stride=2)
        self.hidden, self.last = nn.Linear(8, 24), nn.Linear(24, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.left(x) + self.right(x)) + x
        x = torch.relu(self.bare(x))
        x = x + self.twice(torch.relu(self.twice(x)))
        x = torch.relu(self.up(x)).flatten(2).transpose(1, 2)
        return self.last(torch.relu(self.hidden(x)))


def branches() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = Branches().eval()
        nn.init.zeros_(module.hidden.bias)
    return module


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_means_of_outputs_are_those_of_the_float_model(framework: str) -> None:
    samples = images(8)
    model_, items = network(branches(), samples, framework)
    everywhere = {"bias_correction_params": AdvancedBiasCorrectionParameters(apply_for_all_nodes=True)}
    plain, fast, accurate = (
        quantize(model_, items, disable_bias_correction=True),
        quantize(model_, items, accurate=False, **everywhere),
        quantize(model_, items, **everywhere),
    )
    wanted = outputs(model_, samples).mean(axis=(0, 1, 2))
    errors = [np.abs(outputs(made, samples).mean(axis=(0, 1, 2)) - wanted).max() for made in (plain, fast, accurate)]
    assert errors[2] < 0.2 * min(errors[:2]), errors


class Upwards(nn.Module):
    """A layer that spreads its inputs, and one that runs twice."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 24, 3, stride=stride)
        self.twice = nn.Conv2d(24, 24, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        return self.twice(self.twice(x) + 1) + 1


@pytest.mark.parametrize(("framework", "layer"), [("openvino", "both"), ("torch", "both"), ("onnx", "twice")])
def test_fast_correction_of_layers_that_spread_and_that_share_a_bias(framework: str, layer: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        module = Upwards().eval()
    samples = [np.abs(x) + 1 for x in images(6)]  # whose mean makes errors of weights show
    model_, items = network(module, samples, framework)
    if framework == "openvino":
        model_.reshape([1, 8, 16, 16])  # with free sizes, kernels for AVX2 differ by half a percent from others
    wanted = outputs(model_, samples).mean(axis=(0, 2, 3))
    errors = []
    for disabled in (True, False):
        made = quantize(model_, items, accurate=False, disable_bias_correction=disabled)
        errors.append(np.linalg.norm(outputs(made, samples).mean(axis=(0, 2, 3)) - wanted))
    assert errors[1] < 0.5 * errors[0], errors


@pytest.mark.parametrize("threshold", [-1, float("nan"), "2", True])
def test_a_threshold_is_a_number_of_at_least_zero(threshold: object) -> None:
    with pytest.raises(nncf.ValidationError, match=r"threshold is .*; it must be a number of at least 0"):
        AdvancedBiasCorrectionParameters(threshold=threshold)  # type: ignore[arg-type]


class Sentences(nn.Module):
    """Sizes that Python reads from the input, which is not of one length."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 16, 8))
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        n, length, _ = x.shape
        x = torch.relu(self.first(x) + self.positions[:, :length])
        x = x.reshape(n, length, 2, 4).transpose(2, 3).reshape(n, length, 8)
        return self.second(x) * mask.reshape(n, length, 1)


def test_traced_models_see_inputs_of_any_size() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Sentences().eval()
        items = [(torch.randn(1, n, 8), torch.ones(1, n)) for n in (5, 7, 4, 9)]
    made = quantize(module, items)
    with torch.no_grad():
        means = [torch.cat([net(*item).flatten(0, 1) for item in items]).mean(0) for net in (module, made)]
    np.testing.assert_allclose(means[1], means[0], atol=1e-6)


def test_a_threshold_keeps_biases_from_changing_much() -> None:
    proto, samples = residual(), images(6)
    before, free = constants(proto), constants(quantize(proto, samples))
    for accurate in (True, False):
        limits = AdvancedBiasCorrectionParameters(threshold=1e-9)
        after = constants(quantize(proto, samples, accurate=accurate, bias_correction_params=limits))
        assert all((after[bias] == before[bias]).all() for _, bias in LAYERS.values())
    assert all((free[bias] != before[bias]).any() for _, bias in LAYERS.values())


def test_layers_behind_control_flow_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nncf")
    same = [helper.make_node("Relu", ["c0"], ["inner"])], [helper.make_node("Mul", ["x", "two"], ["inner"])]
    bodies = [helper.make_graph(nodes, "body", [], [helper.make_tensor_value_info("inner", 1, None)]) for nodes in same]
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "before"),
        helper.make_node("If", ["flag"], ["r"], "choice", then_branch=bodies[0], else_branch=bodies[1]),
        helper.make_node("Conv", ["r", "w1", "b1"], ["c1"], "behind"),
        helper.make_node("Conv", ["c0", "w2", "b2"], ["c2"], "beside"),
        helper.make_node("Add", ["c1", "c2"], ["y"], "sum"),
    ]
    values = {f"w{i}": random(32, 32, 1, 1, seed=i) for i in range(3)} | {f"b{i}": random(32, seed=9) for i in range(3)}
    proto = model(nodes, {**values, "flag": np.array(True), "two": np.array(2.0)}, ["n", 32, 16, 16])
    quantized = quantize(proto, [np.repeat(x, 4, axis=1) for x in images(6)], quantize_outputs=True)
    changed = {name for name in values if name[0] == "b" and (constants(quantized)[name] != values[name]).any()}
    assert changed == {"b0", "b2"}
    assert any("behind control flow" in message and message.endswith("behind.") for message in caplog.messages)


def test_it_is_part_of_a_config() -> None:
    section = {"algorithm": "post_training_quantization", "fast_bias_correction": False, "subset_size": 20}
    result = run({"compression": section}, residual(), dataset=nncf.Dataset(images(4)))
    assert [e.action for e in result.plan.entries].count("replace") == len(LAYERS)


def test_what_does_not_fit_into_memory_is_kept_in_files() -> None:
    random_ = np.random.default_rng(0)
    arrays = [random_.normal(size=(3, n)).astype(np.float16) for n in (5, 1, 7, 0)]
    with Shelf(limit=40) as shelf:
        for array in arrays:
            shelf.add("a", array)
        shelf["b"] = (array + 1 for array in shelf["a"])
        assert [isinstance(array, np.memmap) for array in shelf["a"]] == [False, False, True, False]
        for found, other, array in zip(shelf["a"], shelf["b"], arrays, strict=True):
            np.testing.assert_array_equal(found, array)
            np.testing.assert_array_equal(other, array + np.float16(1))
        shelf.drop("a")
        shelf.add("c", arrays[0])
        assert not isinstance(shelf["c"][0], np.memmap)
