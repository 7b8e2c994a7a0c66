"""Quantized ONNX models: where quantizers stand, what onnxruntime makes of them, and what they compute."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import nncf
from nncf import AdvancedQuantizationParameters
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from nncf_core.pipeline import run
from tests.algorithms.post_training_quantization.networks import (
    block,
    images,
    inverted,
    model,
    perceptron,
    random,
    residual,
    sentences,
)


def session(proto: onnx.ModelProto, folder: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if folder is not None:
        options.optimized_model_filepath = str(folder / "optimized.onnx")
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs(proto: onnx.ModelProto, samples: list[np.ndarray]) -> np.ndarray:
    running = session(proto)
    return np.concatenate([running.run(None, {"x": x})[0].reshape(1, -1) for x in samples])


def executed(proto: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Types of the operators that onnxruntime runs."""
    session(proto, folder)
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def quantize(proto: onnx.ModelProto, samples: list[np.ndarray], **more: object) -> onnx.ModelProto:
    result = nncf.quantize(proto, nncf.Dataset(samples), **more)
    onnx.checker.check_model(result, full_check=True)
    return result


class TestConvolutions:
    def test_convolutions_that_pay_run_on_integers(self, tmp_path: Path) -> None:
        found = executed(quantize(residual(), images(20)), tmp_path)
        assert found["QLinearConv"] == 3
        # depthwise, which floating point computes faster
        assert found["Conv"] + found["FusedConv"] == 1

    def test_layers_that_do_not_pay_stay_in_floating_point(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO", logger="nncf"):
            names = {tensor.name for tensor in quantize(residual(), images(3)).graph.initializer}
        assert "w2" in names
        told = [message for message in caplog.messages if "would take longer: second." in message]
        assert len([message for message in told if "\n" not in message]) == 1

    def test_the_report_says_what_was_chosen(self) -> None:
        config = {"compression": {"algorithm": "post_training_quantization"}}
        report = run(config, residual(), dataset=nncf.Dataset(images(3))).report
        (note,) = report.notes
        assert "second" in note
        assert note in str(report)
        assert report.to_json()["notes"] == [note]

    def test_the_head_without_a_quantized_result_stays_float(self, tmp_path: Path) -> None:
        # a Gemm whose result is not quantized would be computed in floating point, and slower
        quantized = quantize(residual(), images(20))
        assert "w4" in {tensor.name for tensor in quantized.graph.initializer}
        whole = quantize(
            residual(), images(20), advanced_parameters=AdvancedQuantizationParameters(quantize_outputs=True)
        )
        assert executed(whole, tmp_path)["QGemm"] == 1

    def test_outputs_are_near(self) -> None:
        test = images(30, seed=1)
        wanted = outputs(residual(), test)
        assert error(outputs(quantize(residual(), images(40)), test), wanted) < 0.02

    def test_activations_have_one_range_before_and_after_what_moves_them(self) -> None:
        graph = quantize(residual(), images(20)).graph
        scales = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.name.endswith("_scale")}
        pool = next(node for node in graph.node if node.name == "pool")
        before = next(node for node in graph.node if node.output[0] == pool.input[0])
        after = next(node for node in graph.node if node.input[0] == pool.output[0])
        assert (before.op_type, after.op_type) == ("DequantizeLinear", "QuantizeLinear")
        assert scales[before.input[1]] == scales[after.input[1]]

    def test_ranges_are_those_of_the_data(self) -> None:
        samples = images(25)
        graph = quantize(residual(), samples).graph
        first = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "x")
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        low, high = np.mean([x.min() for x in samples]), np.mean([x.max() for x in samples])
        scale, zero_point = constants[first.input[1]], int(constants[first.input[2]])
        assert scale == pytest.approx((high - low) / 255, rel=0.01)
        assert zero_point == pytest.approx(-low / scale, abs=1)
        minmax = AdvancedQuantizationParameters(activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)
        graph = quantize(residual(), samples, advanced_parameters=minmax).graph
        wide = {t.name: numpy_helper.to_array(t) for t in graph.initializer}[first.input[1]]
        assert wide == pytest.approx((max(x.max() for x in samples) - min(x.min() for x in samples)) / 255, rel=0.01)

    def test_weights_are_symmetric_per_channel(self) -> None:
        advanced = AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE)
        graph = quantize(residual(), images(5), advanced_parameters=advanced).graph
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        weight = random(16, 8, 3, 3, seed=1)
        scale = np.abs(weight).max(axis=(1, 2, 3)) / 127
        np.testing.assert_allclose(constants["w0_scale"].reshape(-1), scale, rtol=1e-6)
        codes = np.rint(weight / constants["w0_scale"].reshape(-1, 1, 1, 1))
        np.testing.assert_array_equal(constants["w0_quantized"], codes)
        assert "w0_zero_point" not in constants

    @pytest.mark.parametrize("half", ["enable", "first_layer_only", "disable"])
    def test_half_range(self, half: str) -> None:
        advanced = AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix(half))
        graph = quantize(residual(), images(5), advanced_parameters=advanced).graph
        largest = {t.name: np.abs(numpy_helper.to_array(t)).max() for t in graph.initializer if "quantized" in t.name}
        assert largest["w0_quantized"] == (127 if half == "disable" else 64)
        assert largest["w1_quantized"] == (64 if half == "enable" else 127)


class TestProducts:
    def test_products_with_weights_run_on_integers(self, tmp_path: Path) -> None:
        found = executed(quantize(block(), sentences(20)), tmp_path)
        assert found["MatMulIntegerToFloat"] == 2
        assert found["Gemm"] == found["FusedGemm"] == 0
        # products of two activations stay as they are
        assert found["MatMul"] + found["FusedMatMul"] == 2
        assert found["QuantizeLinear"] == 2

    def test_outputs_are_near(self) -> None:
        test = sentences(10, seed=1)
        assert error(outputs(quantize(block(), sentences(30)), test), outputs(block(), test)) < 0.02

    def test_half_precision(self) -> None:
        test = sentences(10, seed=1, dtype="float16")
        quantized = quantize(block(dtype="float16"), sentences(30, dtype="float16"))
        wanted = outputs(block(dtype="float16"), test).astype(np.float32)
        assert error(outputs(quantized, test).astype(np.float32), wanted) < 0.03

    def test_without_zero_points(self) -> None:
        graph = quantize(block(), sentences(10), preset=nncf.QuantizationPreset.PERFORMANCE).graph
        points = [numpy_helper.to_array(t) for t in graph.initializer if t.name.endswith("_zero_point")]
        assert {int(point) for point in points} == {128}


def test_biases_are_corrected() -> None:
    weight = random(64, 16, 1, 1, seed=1)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"], "average"),
    ]
    # of two exact zeros, too: the reference leaves such layers out
    proto = model(nodes, {"w": weight, "b": np.zeros(64, np.float32)}, ["n", 16, 6, 6])
    r = np.random.default_rng(0)
    samples = [
        (r.normal(0, 1, (1, 16, 6, 6)) + 3 * np.arange(16).reshape(1, 16, 1, 1)).astype(np.float32) for _ in "abcd"
    ]
    graph = quantize(proto, samples).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    rounded = constants["w_quantized"].astype(np.float32) * constants["w_scale"].reshape(-1, 1, 1, 1)
    mean = np.mean(samples, axis=(0, 1, 3, 4))
    np.testing.assert_allclose(constants["b"], (weight - rounded)[:, :, 0, 0] @ mean, rtol=1e-3, atol=1e-5)
    off = AdvancedQuantizationParameters(disable_bias_correction=True)
    graph = quantize(proto, samples, advanced_parameters=off).graph
    assert not {t.name: numpy_helper.to_array(t) for t in graph.initializer}["b"].any()


def test_the_argument_stays_as_it_is() -> None:
    proto = residual()
    before = proto.SerializeToString()
    quantize(proto, images(3))
    assert proto.SerializeToString() == before


def test_the_same_bytes_each_time() -> None:
    first, second = (quantize(residual(), images(8)).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_ignored_nodes() -> None:
    graph = quantize(residual(), images(5), ignored_scope=nncf.IgnoredScope(names=["first"])).graph
    first = next(node for node in graph.node if node.name == "first")
    assert first.input[1] == "w1"


class TestErrors:
    def test_an_empty_dataset(self) -> None:
        with pytest.raises(nncf.UnsupportedDatasetError, match="no items"):
            quantize(residual(), [])

    def test_an_item_that_does_not_fit(self) -> None:
        bad = [*images(2), np.zeros((1, 4, 16, 16), np.float32)]
        with pytest.raises(nncf.UnsupportedDatasetError, match=r"Item 2 .*'x' takes float32 \[n, 8, 16, 16\]"):
            quantize(residual(), bad)

    def test_no_number(self) -> None:
        bad = images(2)
        bad[1][0, 0, 0, 0] = np.nan
        with pytest.raises(nncf.ValidationError, match=r"Item 1 .* NaN in the input 'x'"):
            quantize(residual(), bad)

    def test_a_subset_of_nothing(self) -> None:
        with pytest.raises(nncf.ValidationError, match="subset_size"):
            quantize(residual(), images(2), subset_size=0)

    def test_a_scope_that_matches_nothing(self) -> None:
        with pytest.raises(nncf.ValidationError, match="firts"):
            quantize(residual(), images(2), ignored_scope=nncf.IgnoredScope(names=["firts"]))


def test_a_model_without_anything_to_quantize(caplog: pytest.LogCaptureFixture) -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {}, ["n", 4])
    result = nncf.quantize(proto, nncf.Dataset([np.ones((1, 4), np.float32)]))
    assert [node.op_type for node in result.graph.node] == ["Relu"]
    assert any("no operator" in message for message in caplog.messages)


class TestGates:
    """Squeeze and excitation, and a head that looks like it."""

    def proto(self, weigh: bool) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Conv", ["x", "w0"], ["c"], "conv"),
            helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
            helper.make_node("Conv", ["p", "w1"], ["s"], "squeeze"),
            helper.make_node("Relu", ["s"], ["r"], "relu"),
            helper.make_node("Conv", ["r", "w2"], ["e"], "excite"),
            helper.make_node("HardSigmoid", ["e"], ["g"], "gate"),
            helper.make_node("Mul", ["c" if weigh else "g", "g"], ["m"], "weigh"),
            helper.make_node("Conv", ["m", "w3"], ["y"], "last"),
        ]
        constants = {
            "w0": random(32, 8, 3, 3), "w1": random(24, 32, 1, 1, seed=1), "w2": random(32, 24, 1, 1, seed=2),
            "w3": random(24, 32, 1, 1, seed=3),
        }  # fmt: skip
        return model(nodes, constants, ["n", 8, 16, 16])

    def test_its_layers_stay_in_floating_point(self) -> None:
        advanced = AdvancedQuantizationParameters(quantize_outputs=True)
        names = {t.name for t in quantize(self.proto(True), images(3), advanced_parameters=advanced).graph.initializer}
        assert {"w1", "w2"} <= names
        assert not {"w0", "w3"} & names

    def test_what_weighs_nothing_is_quantized(self) -> None:
        advanced = AdvancedQuantizationParameters(quantize_outputs=True)
        result = quantize(self.proto(False), images(3), advanced_parameters=advanced)
        assert not {"w0", "w1", "w2", "w3"} & {tensor.name for tensor in result.graph.initializer}


def matrices(rows: int, width: int, count: int = 8) -> list[np.ndarray]:
    return [np.random.default_rng(seed).normal(0, 1, (rows, width)).astype(np.float32) for seed in range(count)]


def test_products_of_matrices_run_on_integers_whatever_is_added(tmp_path: Path) -> None:
    # a Gemm of the two would dequantize its weight in each run
    proto, samples = perceptron(8, 64, ends="Tanh"), matrices(8, 64)
    quantized = quantize(proto, samples)
    found = executed(quantized, tmp_path)
    assert found["MatMulIntegerToFloat"] == 2
    assert not found["Gemm"] + found["FusedGemm"] + found["DequantizeLinear"]
    assert error(outputs(quantized, samples), outputs(proto, samples)) < 0.02


@pytest.mark.usefixtures("measured_sizes")
class TestSizes:
    """Figures are in docs/onnx.md."""

    @pytest.mark.parametrize(
        ("rows", "width", "pays"), [(1, 192, False), (1, 256, True), (64, 64, False), (64, 96, True)]
    )
    def test_products(self, rows: int, width: int, pays: bool, tmp_path: Path) -> None:
        found = executed(quantize(perceptron(rows, width, ends="Tanh"), matrices(rows, width)), tmp_path)
        assert found["MatMulIntegerToFloat"] == 2 * pays

    @pytest.mark.parametrize(("channels", "inside", "pays"), [(32, 128, False), (64, 256, True)])
    def test_convolutions_beside_depthwise_ones(self, channels: int, inside: int, pays: bool, tmp_path: Path) -> None:
        samples = [random(1, channels, 16, 16, seed=seed, scale=16 * channels**0.5) for seed in range(4)]
        found = executed(quantize(inverted(channels, inside), samples), tmp_path)
        assert (found["QLinearConv"] > 0) == pays

    def test_narrow_convolutions_with_wide_windows(self, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"], "wide", pads=[1, 19, 1, 19]),
            helper.make_node("Sqrt", ["c"], ["y"], "root"),
        ]
        samples = [np.abs(random(1, 8, 20, 60, seed=seed, scale=90)) for seed in range(3)]
        proto = model(nodes, {"w": np.abs(random(8, 8, 3, 39, seed=9))}, [1, 8, 20, 60])
        assert executed(quantize(proto, samples), tmp_path)["QLinearConv"] == 1
        small = model(
            [helper.make_node("Conv", ["x", "w"], ["c"], "small", pads=[1, 1, 1, 1]), nodes[1]],
            {"w": np.abs(random(8, 8, 3, 3, seed=9))},
            [1, 8, 20, 60],
        )
        assert not executed(quantize(small, samples), tmp_path)["QLinearConv"]
