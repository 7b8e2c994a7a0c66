"""Convolutions of few output channels that compute several positions at a time: the same numbers, sooner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from attrs import evolve
from onnx import TensorProto, helper, numpy_helper

import nncf
from nncf import AdvancedQuantizationParameters, TargetDevice
from nncf.quantization.advanced_parameters import QuantizationParameters, QuantizationScheme
from nncf_core.errors import ValidationError
from nncf_core.pipeline import run
from nncf_core.registry import registry

RANDOM = np.random.default_rng(5)


def network(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: list[int | str], outputs: list[str]
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "narrow", inputs, results, initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def conv(x: str, weight: np.ndarray, name: str, bias: str | None = None, **attributes: object) -> onnx.NodeProto:
    operands = [x, "w", *([] if bias is None else [bias])]
    return helper.make_node("Conv", operands, [name], name=name, kernel_shape=weight.shape[2:], **attributes)


def kernel(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 0.2, shape).astype(np.float32)


def finished(model: onnx.ModelProto, device: str = "CPU", **options: object) -> onnx.ModelProto:
    backend = registry().backend_for(model)
    working = backend.inserter.finish(backend.builder.open(model, {}), device, options)
    result = backend.builder.export(working, model)
    onnx.checker.check_model(result, full_check=True)
    return result


def outputs(model: onnx.ModelProto | Path, x: np.ndarray) -> dict[str, np.ndarray]:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def kernels(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Shapes of the weights of convolutions, in order."""
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {value.name: value for value in inferred.graph.value_info}
    found = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found |= {name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for name, v in shapes.items()}
    return [found[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]


CASES = {
    "window": ((1, 8, 5, 5), {"pads": [2, 2, 2, 2]}, (2, 8, 23, 31), (16, 8, 8, 8)),
    "wide window": ((8, 8, 3, 39), {"pads": [1, 19, 1, 19]}, (1, 8, 12, 51), (16, 8, 3, 40)),
    "steps": ((2, 4, 5, 7), {"strides": [1, 3], "pads": [0, 2, 1, 0]}, (1, 4, 21, 40), None),
    "steps in both": ((1, 3, 9, 9), {"strides": [2, 3]}, (1, 3, 40, 61), None),
    "a row": ((1, 1, 1, 64), {"strides": [1, 2]}, (1, 1, 1, 301), (16, 1, 1, 94)),
}


@pytest.mark.parametrize("known", [True, False], ids=["known shape", "unknown shape"])
@pytest.mark.parametrize("case", CASES)
def test_floats_are_what_they_were(case: str, known: bool) -> None:
    shape, attributes, size, wanted = CASES[case]
    weight = kernel(*shape)
    nodes = [
        conv("x", weight, "y", "b", **attributes),
        helper.make_node("Sigmoid", ["y"], ["z"]),
        helper.make_node("ReduceMean", ["z"], ["mean"], axes=[2, 3]),
    ]
    given = list(size) if known else ["n", size[1], "h", "w"]
    model = network(nodes, {"w": weight, "b": kernel(shape[0])}, given, ["z", "mean"])
    x = RANDOM.normal(size=size).astype(np.float32)
    made = finished(model)
    assert kernels(made) != [shape]
    assert wanted is None or kernels(made) == [wanted]
    found, before = outputs(made, x), outputs(model, x)
    for name, array in before.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_layers_that_share_a_weight() -> None:
    weight = kernel(1, 8, 5, 5)
    nodes = [
        conv("x", weight, "y", "b", pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["x"], ["positive"]),
        conv("positive", weight, "z", pads=[2, 2, 2, 2]),
    ]
    model = network(nodes, {"w": weight, "b": kernel(1)}, [1, 8, 16, 16], ["y", "z"])
    x = RANDOM.normal(size=(1, 8, 16, 16)).astype(np.float32)
    made = finished(model)
    assert [tensor.name for tensor in made.graph.initializer if tensor.name == "w"] == []
    for name, array in outputs(model, x).items():
        np.testing.assert_allclose(outputs(made, x)[name], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "attributes", "channels"),
    [
        ((16, 8, 5, 5), {}, 8),  # the kernel is full
        ((1, 64, 1, 1), {}, 64),  # every position would be computed anew
        ((4, 4, 3, 3), {}, 4),  # moving the result takes longer
        ((1, 33, 3, 3), {}, 33),  # onnxruntime has no such kernel
        ((8, 1, 5, 5), {"group": 8}, 8),
        ((1, 8, 5, 5), {"dilations": [2, 2]}, 8),
        ((1, 8, 5, 5), {"auto_pad": "SAME_UPPER"}, 8),
    ],
)
def test_others_stay(shape: tuple[int, ...], attributes: dict[str, object], channels: int) -> None:
    weight = kernel(*shape)
    model = network([conv("x", weight, "y", **attributes)], {"w": weight}, [1, channels, 20, 20], ["y"])
    assert kernels(finished(model)) == [shape]


def test_it_can_be_switched_off_and_is_for_the_cpu() -> None:
    weight = kernel(1, 8, 5, 5)
    model = network([conv("x", weight, "y")], {"w": weight}, [1, 8, 20, 20], ["y"])
    assert kernels(finished(model)) != [weight.shape]
    assert kernels(finished(model, widen_convolutions=False)) == [weight.shape]
    assert kernels(finished(model, "GPU")) == kernels(finished(model, "NPU")) == [weight.shape]
    with pytest.raises(ValidationError, match="widen_convolutions"):
        finished(model, widen_convolutions="no")


@pytest.mark.usefixtures("measured_sizes")
@pytest.mark.needs("nncf_post_training_quantization")
class TestQuantized:
    weight = kernel(8, 8, 3, 39)
    last = kernel(32, 8, 5, 5)

    def model(self) -> onnx.ModelProto:
        nodes = [
            conv("x", self.weight, "y", "b", pads=[1, 19, 1, 19]),
            helper.make_node("Relu", ["y"], ["positive"]),
            helper.make_node("Conv", ["positive", "last"], ["z"], name="z", kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
            helper.make_node("Relu", ["z"], ["rectified"]),
            helper.make_node("ReduceMean", ["rectified"], ["mean"], axes=[2, 3]),
        ]
        constants = {"w": self.weight, "last": self.last, "b": kernel(8)}
        return network(nodes, constants, ["n", 8, "h", "w"], ["mean"])

    def samples(self) -> list[np.ndarray]:
        return list(np.random.default_rng(6).normal(size=(8, 1, 8, 20, 61)).astype(np.float32))

    @pytest.mark.parametrize("mode", QuantizationScheme)
    @pytest.mark.parametrize("per_channel", [True, False])
    def test_integers_are_the_same(self, mode: QuantizationScheme, per_channel: bool, tmp_path: Path) -> None:
        model, samples = self.model(), self.samples()
        weights = QuantizationParameters(mode=mode, per_channel=per_channel)
        given = AdvancedQuantizationParameters(weights_quantization_params=weights)
        made = nncf.quantize(model, nncf.Dataset(samples), advanced_parameters=given)
        plain = evolve(given, backend_params={"widen_convolutions": False})
        other = nncf.quantize(model, nncf.Dataset(samples), advanced_parameters=plain)
        onnx.checker.check_model(made, full_check=True)
        assert kernels(other)[0] == (8, 8, 3, 39)
        assert kernels(made) == [(32, 8, 3, 42), (32, 8, 5, 5)]
        for x in samples:
            np.testing.assert_array_equal(outputs(made, x)["mean"], outputs(other, x)["mean"])
        assert "QLinearConv" in _executed(made, tmp_path)
        assert "Conv" not in _executed(made, tmp_path)

    def test_a_file_holds_the_same(self, tmp_path: Path) -> None:
        model, samples = self.model(), self.samples()
        config = {"compression": {"algorithm": "post_training_quantization"}}
        in_memory = run(config, model, dataset=nncf.Dataset(samples)).model
        file = tmp_path / "quantized.onnx"
        run(config, model, dataset=nncf.Dataset(samples), output=file)
        written = onnx.load(file)
        used = {name for node in written.graph.node for name in node.input}
        assert {tensor.name for tensor in written.graph.initializer} <= used
        assert kernels(written)[0] == (32, 8, 3, 42)
        x = samples[0]
        np.testing.assert_array_equal(outputs(file, x)["mean"], outputs(in_memory, x)["mean"])

    def test_other_devices_get_plain_convolutions(self) -> None:
        made = nncf.quantize(self.model(), nncf.Dataset(self.samples()), target_device=TargetDevice.GPU)
        assert kernels(made)[0] == (8, 8, 3, 39)


def _executed(model: onnx.ModelProto, folder: Path) -> list[str]:
    """Types of the operators that onnxruntime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimized.onnx"), 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]
