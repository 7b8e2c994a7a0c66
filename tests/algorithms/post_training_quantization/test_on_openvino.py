"""Quantized OpenVINO models: what the CPU plugin executes, and what they compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import openvino.opset13 as ops
import pytest

import nncf
from nncf.quantization.advanced_parameters import QuantizationParameters, QuantizationScheme
from tests.algorithms.post_training_quantization.networks import block, images, residual, sentences
from tests.algorithms.post_training_quantization.networks import model as network


@pytest.fixture
def convolutions(tmp_path: Path) -> ov.Model:
    onnx.save(residual(32), tmp_path / "model.onnx")
    return ov.convert_model(tmp_path / "model.onnx")


@pytest.fixture
def products(tmp_path: Path) -> ov.Model:
    onnx.save(block(), tmp_path / "model.onnx")
    return ov.convert_model(tmp_path / "model.onnx")


def compiled(model: ov.Model) -> ov.CompiledModel:
    return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def outputs(model: ov.Model, samples: list[np.ndarray]) -> np.ndarray:
    running = compiled(model)
    return np.concatenate([running([x])[0].reshape(1, -1) for x in samples])


def precisions(model: ov.Model, kinds: tuple[str, ...]) -> list[str]:
    """Precision in which the CPU plugin executes layers of these kinds."""
    found = []
    for node in compiled(model).get_runtime_model().get_ops():
        info = {
            key: value.astype(str) if isinstance(value, ov.OVAny) else value
            for key, value in node.get_rt_info().items()
        }
        if info.get("layerType") in kinds:
            found.append(info["runtimePrecision"])
    return found


def test_convolutions_run_on_integers(convolutions: ov.Model) -> None:
    quantized = nncf.quantize(convolutions, nncf.Dataset(images(20)))
    found = precisions(quantized, ("Convolution",))
    assert len(found) == 4
    assert set(found) <= {"u8", "i8"}
    test = images(20, seed=1)
    wanted = outputs(convolutions, test)
    assert np.linalg.norm(outputs(quantized, test) - wanted) < 0.08 * np.linalg.norm(wanted)


def test_products_run_on_integers(products: ov.Model) -> None:
    quantized = nncf.quantize(products, nncf.Dataset(sentences(20)))
    found = precisions(quantized, ("FullyConnected",))
    assert len(found) == 2
    assert set(found) <= {"u8", "i8"}
    test = sentences(10, seed=1)
    wanted = outputs(products, test)
    assert np.linalg.norm(outputs(quantized, test) - wanted) < 0.03 * np.linalg.norm(wanted)


def test_weights_with_zero_points_are_right_and_said_to_be_no_faster(
    convolutions: ov.Model, caplog: pytest.LogCaptureFixture
) -> None:
    params = QuantizationParameters(mode=QuantizationScheme.ASYMMETRIC)
    advanced = nncf.AdvancedQuantizationParameters(weights_quantization_params=params)
    quantized = nncf.quantize(convolutions, nncf.Dataset(images(20)), advanced_parameters=advanced)
    assert any("zero points in floating point" in message for message in caplog.messages)
    # the day it computes them with integers, QuantizationSetup.weight_zero_points is to say so
    assert set(precisions(quantized, ("Convolution",))) == {"f32"}
    test = images(20, seed=1)
    wanted = outputs(convolutions, test)
    assert np.linalg.norm(outputs(quantized, test) - wanted) < 0.08 * np.linalg.norm(wanted)


def test_quantizers_are_shown_by_name(convolutions: ov.Model) -> None:
    quantized = nncf.quantize(convolutions, nncf.Dataset(images(5)))
    names = {op.get_friendly_name() for op in quantized.get_ops() if op.get_type_name() == "FakeQuantize"}
    assert len(names) >= 4
    assert all("/input_" in name or "/output_" in name for name in names)


def test_the_argument_stays_as_it_is(convolutions: ov.Model) -> None:
    before = [op.get_friendly_name() for op in convolutions.get_ops()]
    nncf.quantize(convolutions, nncf.Dataset(images(3)))
    assert [op.get_friendly_name() for op in convolutions.get_ops()] == before


def test_ranges_are_those_of_the_onnx_model(tmp_path: Path) -> None:
    proto, samples = residual(), images(12)
    onnx.save(proto, tmp_path / "model.onnx")
    # onnxruntime leaves the head in floating point unless its result is quantized
    advanced = nncf.AdvancedQuantizationParameters(quantize_outputs=True)
    converted = ov.convert_model(tmp_path / "model.onnx")
    in_openvino = nncf.quantize(converted, nncf.Dataset(samples), advanced_parameters=advanced)
    ends = []
    for op in in_openvino.get_ops():
        if op.get_type_name() == "FakeQuantize":
            low, high = (op.input_value(index).get_node().data for index in (1, 2))
            ends.append((low.item(), high.item()))
    in_onnx = nncf.quantize(proto, nncf.Dataset(samples), advanced_parameters=advanced)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in in_onnx.graph.initializer}
    assert len(ends) >= 5
    for low, high in ends:
        scale = (high - low) / 255
        nearest = min(
            (
                abs(float(constants[node.input[1]]) - scale)
                for node in in_onnx.graph.node
                if node.op_type == "QuantizeLinear"
            ),
        )
        assert nearest < 1e-4 * scale


def test_each_channel_of_a_depthwise_convolution_has_a_scale(convolutions: ov.Model) -> None:
    quantized = nncf.quantize(convolutions, nncf.Dataset(images(5)))
    (depthwise,) = (op for op in quantized.get_ops() if op.get_type_name() == "GroupConvolution")
    weight = depthwise.input_value(1).get_node()
    while weight.get_type_name() != "Multiply":
        weight = weight.input_value(0).get_node()
    assert tuple(weight.input_value(1).get_shape()) == (32, 1, 1, 1, 1)


def test_biases_of_depthwise_convolutions_are_corrected(convolutions: ov.Model) -> None:
    from nncf_core.api import quantize_config
    from nncf_core.pipeline import make_plan

    plan, _ = make_plan(quantize_config(), convolutions, dataset=nncf.Dataset(images(5)))
    entries = [e for e in plan.entries if e.algorithm == "post_training_quantization" and e.action == "replace"]
    assert len(entries) == 5


@pytest.mark.parametrize("weighs", [True, False])
def test_no_scale_is_lost_behind_a_convolution_without_a_bias(weighs: bool) -> None:
    r = np.random.default_rng(0)
    x = ops.parameter(ov.PartialShape([-1, 16, -1, -1]), np.float32, "x")
    weight = ops.constant(r.normal(0, 0.2, (32, 16, 1, 1)).astype(np.float32))
    conv = ops.convolution(x, weight, [1, 1], [0, 0], [0, 0], [1, 1])
    conv.output(0).set_names({"features"})
    means = ops.reduce_mean(conv, ops.constant(np.array([2, 3])), True)
    result = ops.multiply(conv, ops.sigmoid(means)) if weighs else means
    result.output(0).set_names({"y"})
    model = ov.Model([result, conv], [x], "gate")
    items = [r.normal(0.3, 1, (1, 16, 8, 8)).astype(np.float32) for _ in range(10)]
    quantized = nncf.quantize(model, nncf.Dataset(items))
    assert [output.get_any_name() for output in quantized.outputs] == ["y", "features"]
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    before, after = (ov.compile_model(m, "CPU", exact)([items[0]]) for m in (model, quantized))
    for wanted, found in zip(before.values(), after.values(), strict=True):
        assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)


def test_normalization_of_a_model_that_was_only_read_is_folded(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        onnx.helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], "norm"),
        onnx.helper.make_node("Relu", ["n"], ["y"], "relu"),
    ]
    constants = {"w": r.normal(0, 0.2, (32, 16, 1, 1)), "v": r.uniform(0.5, 2, 32)}
    constants |= {name: r.normal(1, 0.3, 32) for name in "sbm"}
    proto = network(nodes, {name: value.astype(np.float32) for name, value in constants.items()}, ["n", 16, 6, 6])
    onnx.save(proto, tmp_path / "model.onnx")
    model = ov.Core().read_model(tmp_path / "model.onnx")
    items = [r.normal(0, 1, (1, 16, 6, 6)).astype(np.float32) for _ in range(8)]
    before = [op.get_type_name() for op in model.get_ordered_ops()]
    quantized = nncf.quantize(model, nncf.Dataset(items))
    assert [op.get_type_name() for op in model.get_ordered_ops()] == before
    kinds = [op.get_type_name() for op in quantized.get_ordered_ops()]
    behind = [kind for kind in kinds[kinds.index("Convolution") :] if kind not in ("Constant", "Convert", "Reshape")]
    assert behind == ["Convolution", "Add", "Relu", "Result"]
    (wanted,), (found,) = (compiled(m)([items[0]]).values() for m in (model, quantized))
    assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)
    kept = nncf.AdvancedQuantizationParameters(backend_params={"moc_transformations": False})
    as_given = nncf.quantize(model, nncf.Dataset(items), advanced_parameters=kept)
    assert set(before) - set(kinds) <= {op.get_type_name() for op in as_given.get_ordered_ops()}
    assert "BatchNormInference" in before
