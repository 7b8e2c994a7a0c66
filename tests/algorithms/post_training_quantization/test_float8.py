"""Quantization to 8-bit floats: the same numbers from all three runtimes, and from an emulation in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
import torch
from onnx import helper

import nncf
import nncf.torch
from nncf import AdvancedQuantizationParameters, QuantizationMode, StripFormat
from nncf.quantization.advanced_parameters import FP8QuantizationParameters, FP8Type, QuantizationParameters
from nncf_core.api import quantize_config
from nncf_core.graph import OpKind
from nncf_core.pipeline import make_plan
from nncf_core.plan import Plan
from nncf_core.transformations import InsertQuantizer
from tests.algorithms.post_training_quantization.networks import block, images, model, random, residual, sentences

FRAMEWORKS = ("onnx", "openvino", "torch")
MODES = list(QuantizationMode)
DTYPES = {"fp8_e4m3": ml_dtypes.float8_e4m3fn, "fp8_e5m2": ml_dtypes.float8_e5m2}
LARGEST = {"fp8_e4m3": np.float32(448), "fp8_e5m2": np.float32(57344)}

UP, UP_BIAS = random(32, 16, seed=1), random(32, seed=2, scale=0.1)
DOWN, DOWN_BIAS = random(8, 32, seed=3), random(8, seed=4, scale=0.1)


def products() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["u"], "up"),
        helper.make_node("Add", ["u", "up_bias"], ["a"], "up_add"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "down"], ["d"], "down"),
        helper.make_node("Add", ["d", "down_bias"], ["y"], "down_add"),
    ]
    constants = {"up": UP.T.copy(), "up_bias": UP_BIAS, "down": DOWN.T.copy(), "down_bias": DOWN_BIAS}
    return model(nodes, constants, ["n", 16])


def module() -> torch.nn.Module:
    made = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8)).eval()
    tensors = (UP, UP_BIAS, DOWN, DOWN_BIAS)
    made.load_state_dict(dict(zip(made.state_dict(), map(torch.from_numpy, tensors), strict=True)))
    return made


def converted(proto: onnx.ModelProto, folder: Path) -> ov.Model:
    onnx.save(proto, folder / "model.onnx")
    return ov.convert_model(folder / "model.onnx")


def network(framework: str, folder: Path) -> Any:
    return {"onnx": products, "torch": module, "openvino": lambda: converted(products(), folder)}[framework]()


def data() -> list[np.ndarray]:
    r = np.random.default_rng(5)
    return [r.normal(0, 1 + i / 5, (4, 16)).astype(np.float32) for i in range(10)]


def run(model: Any, samples: list[np.ndarray]) -> np.ndarray:
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            found = [model(torch.from_numpy(x)).numpy() for x in samples]
    elif isinstance(model, ov.Model):
        running = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = [running([x])[0].copy() for x in samples]
    else:
        session = onnxruntime.InferenceSession(model.SerializeToString())
        found = [session.run(None, {"x": x})[0] for x in samples]
    return np.concatenate([y.reshape(len(y), -1) for y in found]).astype(np.float32)


def rounded(x: np.ndarray, scale: np.ndarray, mode: str, through: type = np.float32) -> np.ndarray:
    cut = np.clip(x / scale, -LARGEST[mode], LARGEST[mode]).astype(through)
    return cut.astype(DTYPES[mode]).astype(np.float32) * scale


def activation_scale(samples: list[np.ndarray], mode: str) -> np.ndarray:
    """Half of the format for the mean, over samples, of the ends of the range."""
    low, high = np.mean([x.min() for x in samples]), np.mean([x.max() for x in samples])
    return np.float32(2 * max(abs(low), abs(high)) / LARGEST[mode])


def emulated(samples: list[np.ndarray], mode: str, through: type) -> np.ndarray:
    """What the network computes; activations may go through another type on their way to 8 bits."""
    up, down = (rounded(w, np.abs(w).max(1, keepdims=True) / LARGEST[mode], mode) for w in (UP, DOWN))
    hidden = [np.maximum(x @ UP.T + UP_BIAS, 0) for x in samples]
    first, second = activation_scale(samples, mode), activation_scale(hidden, mode)
    x = np.concatenate(samples)
    y = np.maximum(rounded(x, first, mode, through) @ up.T + UP_BIAS, 0)
    return rounded(y, second, mode, through) @ down.T + DOWN_BIAS


def plain() -> AdvancedQuantizationParameters:
    return AdvancedQuantizationParameters(disable_bias_correction=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_outputs_are_those_of_an_emulation(framework: str, mode: QuantizationMode, tmp_path: Path) -> None:
    samples = data()
    items = [torch.from_numpy(x) for x in samples] if framework == "torch" else samples
    quantized = nncf.quantize(network(framework, tmp_path), nncf.Dataset(items), mode=mode, advanced_parameters=plain())
    # OpenVINO's CPU plugin rounds float32 to float16 first, and that to 8 bits
    through = np.float16 if framework == "openvino" else np.float32
    wanted, found = emulated(samples, str(mode), through), run(quantized, samples)
    # sums in another order may move a number over the middle between two floats
    near = np.isclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max()).mean()
    assert near > 0.97
    exact = np.concatenate([np.maximum(x @ UP.T + UP_BIAS, 0) @ DOWN.T + DOWN_BIAS for x in samples])
    assert np.linalg.norm(found - exact) < 0.15 * np.linalg.norm(exact)
    graph = nncf.build_graph(quantized, example_input=items[0] if framework == "torch" else None)
    formats = [c.compressed_format for c in graph.constants.values() if c.compressed_format]
    assert formats == [str(mode).replace("fp8_", "f8")] * 2


@pytest.mark.parametrize("mode", MODES)
def test_onnxruntime_drops_no_relu(mode: QuantizationMode) -> None:
    quantized = nncf.quantize(residual(), nncf.Dataset(images(10)), mode=mode)
    onnx.checker.check_model(quantized, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(quantized.SerializeToString(), options)
    wanted = np.concatenate([session.run(None, {"x": x})[0] for x in images(10, seed=1)])
    found = run(quantized, images(10, seed=1))
    assert np.linalg.norm(found - wanted) < 0.01 * np.linalg.norm(wanted)
    exact = run(residual(), images(10, seed=1))
    assert np.linalg.norm(found - exact) < 0.12 * np.linalg.norm(exact)


@pytest.mark.parametrize("mode", MODES)
def test_large_biases_of_small_weights(mode: QuantizationMode) -> None:
    """onnxruntime makes biases integers whose scale is the product of those of operand and weight."""
    weight, bias = random(8, 8, 3, 3, seed=1), random(8, seed=2)
    weight[3] *= 1e-7
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "v"], ["y"], "last"),
    ]
    proto = model(nodes, {"w": weight, "b": np.abs(bias) + 1, "v": random(4, 8, 1, 1, seed=3)}, ["n", 8, 8, 8])
    samples = [x[:, :, :8, :8] for x in images(5)]
    wanted, found = run(proto, samples), run(nncf.quantize(proto, nncf.Dataset(samples), mode=mode), samples)
    assert np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)


@pytest.mark.parametrize("mode", MODES)
def test_half_precision(mode: QuantizationMode, tmp_path: Path) -> None:
    samples = sentences(8, dtype="float16")
    wanted = run(block(dtype="float16"), samples)
    quantized = nncf.quantize(block(dtype="float16"), nncf.Dataset(samples), mode=mode)
    onnx.checker.check_model(quantized, full_check=True)
    found = run(quantized, samples)
    assert np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)
    in_openvino = nncf.quantize(converted(block(dtype="float16"), tmp_path), nncf.Dataset(samples), mode=mode)
    assert np.linalg.norm(run(in_openvino, samples) - found) < 0.02 * np.linalg.norm(wanted)


def test_small_numbers_in_half_precision() -> None:
    """Scales that float16 would round to zero."""
    weight = random(16, 8, seed=1)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"], "m")], {"w": weight}, ["n", 16], "float16")
    samples = [(np.random.default_rng(i).normal(0, 1e-4, (4, 16))).astype(np.float16) for i in range(5)]
    for mode in (None, *MODES):
        quantized = nncf.quantize(proto, nncf.Dataset(samples), mode=mode)
        wanted = run(proto, samples)
        assert np.linalg.norm(run(quantized, samples) - wanted) < 0.1 * np.linalg.norm(wanted)


def test_the_cpu_plugin_computes_in_floating_point(tmp_path: Path) -> None:
    quantized = nncf.quantize(network("openvino", tmp_path), nncf.Dataset(data()), mode=QuantizationMode.FP8_E5M2)
    kinds = [op.get_type_name() for op in quantized.get_ops()]
    assert kinds.count("FakeConvert") == 2
    constants = [op for op in quantized.get_ops() if op.get_type_name() == "Constant"]
    assert sum(op.get_element_type() == ov.Type.f8e5m2 for op in constants) == 2
    running = ov.compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).get_runtime_model()
    info = [op.get_rt_info() for op in running.get_ops()]
    found = [str(i["runtimePrecision"].astype(str)) for i in info if i["layerType"].astype(str) == "FullyConnected"]
    assert found == ["f32", "f32"]


def test_formats_of_weights_and_activations_may_differ() -> None:
    advanced = AdvancedQuantizationParameters(
        activations_quantization_params=FP8QuantizationParameters(FP8Type.E5M2),
        weights_quantization_params=FP8QuantizationParameters(),
    )
    proto = nncf.quantize(
        products(), nncf.Dataset(data()), mode=QuantizationMode.FP8_E4M3, advanced_parameters=advanced
    )
    kinds = {t.name: t.data_type for t in proto.graph.initializer}
    assert kinds["up_quantized"] == kinds["down_quantized"] == onnx.TensorProto.FLOAT8E4M3FN
    said = [a.i for node in proto.graph.node for a in node.attribute if a.name == "output_dtype"]
    assert said == [onnx.TensorProto.FLOAT8E5M2] * 2


def test_a_plan_is_stored(tmp_path: Path) -> None:
    config = quantize_config(mode=QuantizationMode.FP8_E4M3)
    plan, _ = make_plan(config, products(), dataset=nncf.Dataset(data()))
    plan.save(tmp_path)
    for (_, before), (_, after) in zip(plan.steps, Plan.load(tmp_path).steps, strict=True):
        kept = [
            (a.quantizer, b.quantizer) for a, b in zip(before, after, strict=True) if isinstance(a, InsertQuantizer)
        ]
        assert len(kept) == 2
        for old, new in kept:
            assert (old.format, old.scale, old.lo, old.hi) == (new.format, new.scale, new.lo, new.hi)
    assert {entry.format for entry in plan.entries if entry.action == "quantize"} == {"f8e4m3"}


@pytest.fixture(scope="module", params=MODES)
def quantized(request: pytest.FixtureRequest) -> torch.nn.Module:
    items = [torch.from_numpy(x) for x in data()]
    result: torch.nn.Module = nncf.quantize(module(), nncf.Dataset(items), mode=request.param)
    return result


class TestTorch:
    def test_it_is_stored(self, quantized: torch.nn.Module) -> None:
        again = nncf.torch.load_from_config(module(), nncf.torch.get_config(quantized))
        again.load_state_dict(quantized.state_dict())
        np.testing.assert_array_equal(run(again, data()), run(quantized, data()))

    @pytest.mark.parametrize("form", list(StripFormat))
    def test_strip_changes_nothing(self, quantized: torch.nn.Module, form: StripFormat) -> None:
        np.testing.assert_array_equal(run(nncf.strip(quantized, strip_format=form), data()), run(quantized, data()))

    def test_it_trains(self, quantized: torch.nn.Module) -> None:
        x = torch.from_numpy(data()[0])
        quantized(x).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in quantized.parameters())

    @pytest.mark.filterwarnings("ignore")
    def test_programs(self) -> None:
        """Of a module, and quantized themselves; OpenVINO's converter takes both."""
        x, items = torch.from_numpy(data()[0]), nncf.Dataset([torch.from_numpy(x) for x in data()])
        of_module = nncf.quantize(module(), items, mode=QuantizationMode.FP8_E4M3)
        of_program = nncf.quantize(torch.export.export(module(), (x,)), items, mode=QuantizationMode.FP8_E4M3)
        wanted = run(of_module, data()[:1])
        for program in (torch.export.export(of_module, (x,)), of_program):
            with torch.no_grad():
                np.testing.assert_allclose(program.module()(x), wanted, rtol=1e-5, atol=1e-5)
            # through float16 a few numbers become the next float
            found = run(ov.convert_model(program), data()[:1])
            assert np.linalg.norm(found - wanted) < 0.06 * np.linalg.norm(wanted)


class TestErrors:
    def quantize(self, proto: onnx.ModelProto, mode: Any = QuantizationMode.FP8_E4M3, **arguments: Any) -> Any:
        return nncf.quantize(proto, nncf.Dataset(data()), mode=mode, **arguments)

    @pytest.mark.parametrize("opset", [17, 20])
    def test_an_opset_without_them(self, opset: int) -> None:
        proto = products()
        proto.opset_import[0].version = opset
        with pytest.raises(nncf.ParameterNotSupportedError, match=r"opset .*convert_version\(model, 21\)"):
            self.quantize(proto)
        remedied = onnx.version_converter.convert_version(proto, 21)
        found, wanted = run(self.quantize(remedied), data()), run(products(), data())
        assert np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ({"preset": nncf.QuantizationPreset.MIXED}, "preset mixed"),
            ({"target_device": nncf.TargetDevice.NPU}, "no f8e4m3 on target_device NPU"),
            ({"mode": QuantizationMode.FP8_E5M2, "target_device": nncf.TargetDevice.GPU}, "it knows f8e4m3"),
            ({"advanced_parameters": AdvancedQuantizationParameters(quantize_outputs=True)}, "quantize_outputs"),
            (
                {"advanced_parameters": AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)},
                "overflow_fix",
            ),
            (
                {
                    "advanced_parameters": AdvancedQuantizationParameters(
                        weights_quantization_params=QuantizationParameters(num_bits=8)
                    )
                },
                "weights_quantization_params .* is about integers",
            ),
            (
                {
                    "mode": None,
                    "advanced_parameters": AdvancedQuantizationParameters(
                        activations_quantization_params=FP8QuantizationParameters(FP8Type.E4M3)
                    ),
                },
                "activations_quantization_params asks for 8-bit floats; give the mode",
            ),
        ],
    )
    def test_parameters_that_do_not_go_together(self, arguments: dict[str, Any], match: str) -> None:
        with pytest.raises(nncf.ParameterNotSupportedError, match=match):
            self.quantize(products(), **arguments)


@pytest.mark.parametrize("transformer", [False, True])
def test_products_of_activations(transformer: bool) -> None:
    """All of them, but attention's last one where the user says that the model is a transformer."""
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    quantized = nncf.quantize(block(), nncf.Dataset(sentences(5)), mode=QuantizationMode.FP8_E4M3, model_type=kind)
    graph = nncf.build_graph(quantized)
    for name, count in (("up", 1), ("down", 1), ("scores", 2), ("mix", 0 if transformer else 2)):
        before = [graph.producer(port.tensor) for port in graph.node(name).inputs if port.constant is None]
        assert sum(node is not None and node.kind is OpKind.DEQUANTIZE for node in before) == count
