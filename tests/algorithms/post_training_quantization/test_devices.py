"""What each device's setup does to a network of convolutions and to attention: data, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
import torch
from onnx import helper, numpy_helper

import nncf
from nncf import ModelType, TargetDevice
from nncf_core.graph import Graph, Node, OpKind
from nncf_core.registry import registry
from tests.algorithms.post_training_quantization.networks import block, images, model, random, residual, sentences
from tests.processors import has_vnni

DEVICES = [str(device) for device in TargetDevice]
QUANTIZERS = (OpKind.QUANTIZE, OpKind.DEQUANTIZE)


def quantize(network: Any, data: Sequence[Any], device: str = "ANY", **arguments: Any) -> Any:
    # factors for even channels would only move the ranges
    advanced = nncf.AdvancedQuantizationParameters(
        smooth_quant_alphas=nncf.quantization.advanced_parameters.AdvancedSmoothQuantParameters(-1, -1)
    )
    device = TargetDevice(device)
    return nncf.quantize(network, nncf.Dataset(data), target_device=device, advanced_parameters=advanced, **arguments)


def operands(graph: Graph) -> Mapping[str, int]:
    """How many quantized activations operators take, by name or type of those that take any."""
    found: Counter[str] = Counter()
    for node in graph:
        if node.kind in QUANTIZERS:
            continue
        for port in node.inputs:
            before = graph.producer(port.tensor)
            if port.constant is None and before is not None and before.kind in QUANTIZERS:
                found[node.name] += 1
    return found


def in_openvino(proto: onnx.ModelProto, folder: Path) -> ov.Model:
    onnx.save(proto, folder / "model.onnx")
    return ov.convert_model(folder / "model.onnx")


def by_type(graph: Graph) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for name, count in operands(graph).items():
        found[graph.node(name).op_type] += count
    return found


# how many quantized operands the operators of the residual network take, and those of attention
ONNX_CONVOLUTIONS = {
    # the depthwise convolution is left in floating point, and so is the sum behind it
    "CPU": {"stem": 1, "pool": 1, "first": 1, "second": 1, "third": 1, "third_act": 1},
    # TensorRT moves quantizers over pooling and reshaping
    "GPU": {"stem": 1, "pool": 1, "second": 1, "third": 1, "flatten": 1},
    "NPU": {
        **dict.fromkeys(("stem", "pool", "first", "second", "third", "third_act", "average", "flatten", "head"), 1),
        "skip": 2,
    },
}
ONNX_ATTENTION = {
    "CPU": {"up": 1, "down": 1},
    # the sum takes x as it is quantized for the product
    "GPU": {"up": 1, "down": 1, "residual": 1, "transpose": 1, "scores": 1},
    # constants that are added, too
    "NPU": {
        **dict.fromkeys(("up", "gelu", "down", "transpose", "softmax"), 1),
        **dict.fromkeys(("up_add", "down_add", "residual", "scores", "mix"), 2),
    },
}
# queries, keys and values are one tensor there
OPENVINO_ATTENTION = {
    "CPU": {"MatMul": 2},
    "CPU_SPR": {"MatMul": 2, "ScaledDotProductAttention": 3},
    "GPU": {"MatMul": 2, "ScaledDotProductAttention": 3},
    "NPU": {"MatMul": 2, "ScaledDotProductAttention": 3, "Add": 2},
}


def same_as(table: Mapping[str, Any], device: str) -> Any:
    return table.get(device, table["CPU"])


@pytest.mark.parametrize("device", DEVICES)
def test_onnx(device: str) -> None:
    found = quantize(residual(), images(4), device)
    assert operands(nncf.build_graph(found)) == same_as(ONNX_CONVOLUTIONS, device)
    attention = quantize(block(), sentences(4), device)
    assert operands(nncf.build_graph(attention)) == same_as(ONNX_ATTENTION, device)
    for proto, original, data in ((found, residual(), images(4)), (attention, block(), sentences(4))):
        onnx.checker.check_model(proto, full_check=True)
        wanted, got = (
            np.concatenate([run.run(None, {"x": x})[0].reshape(-1) for x in data])
            for run in (onnxruntime.InferenceSession(p.SerializeToString()) for p in (original, proto))
        )
        assert np.linalg.norm(got - wanted) < 0.06 * np.linalg.norm(wanted)


@pytest.mark.parametrize("device", DEVICES)
def test_openvino(device: str, tmp_path: Path) -> None:
    attention = quantize(in_openvino(block(), tmp_path), sentences(4), device)
    assert by_type(nncf.build_graph(attention)) == same_as(OPENVINO_ATTENTION, device)


@pytest.mark.parametrize("device", DEVICES)
def test_torch_follows_openvino(device: str) -> None:
    setups = {name: registry().backends[name].inserter.quantization_setup(device) for name in ("torch", "openvino")}
    for one, other in (("linear", "MatMul"), ("scaled_dot_product_attention", "ScaledDotProductAttention")):
        assert setups["torch"].operators.get(one) == setups["openvino"].operators.get(other)
    for one, other in (("conv_transpose2d", "ConvolutionBackpropData"), ("add", "Add"), ("cat", "Concat")):
        assert setups["torch"].operators.get(one) == setups["openvino"].operators.get(other)
    same = ("zero_points", "signed", "whole", "attention_output", "moves_through")
    assert [getattr(setups["torch"], name) for name in same] == [getattr(setups["openvino"], name) for name in same]
    assert set(setups["torch"].float8) == set(setups["openvino"].float8)


class Attention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(32, 96), torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).reshape(x.shape[0], -1, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(torch.nn.functional.scaled_dot_product_attention(q, k, v))


@pytest.mark.skipif(not has_vnni(), reason="OpenVINO has integer kernels of attention for VNNI and AMX alone")
@pytest.mark.filterwarnings("ignore")
def test_attention_computes_with_integers_on_amx(tmp_path: Path) -> None:
    """Queries and keys have no zero point, with which OpenVINO keeps attention in floating point."""
    torch.manual_seed(0)
    data = [torch.randn(1, 64, 32) for _ in range(4)]
    network = ov.convert_model(Attention().eval(), example_input=data[0])
    arrays = [x.numpy() for x in data]
    for device in ("CPU", "CPU_SPR"):
        quantized = quantize(network, arrays, device)
        running = ov.compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        info = [op.get_rt_info() for op in running.get_runtime_model().get_ops()]
        names = {str(i["runtimePrecision"].astype(str)) for i in info if i["layerType"].astype(str) == "Subgraph"}
        assert ("i8" in names) is (device == "CPU_SPR")
        wanted = ov.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([arrays[0]])[0]
        assert np.linalg.norm(running([arrays[0]])[0] - wanted) < 0.05 * np.linalg.norm(wanted)


def ranges_before(quantized: ov.Model, name: str) -> list[tuple[float, float]]:
    node = next(op for op in quantized.get_ops() if op.get_friendly_name() == name)
    found = []
    for source in node.input_values():
        before = source.get_node()
        if before.get_type_name() == "FakeQuantize":
            found.append(tuple(before.input_value(i).get_node().data.item() for i in (1, 2)))
    return found


def test_operands_of_sums_share_a_scale_on_the_npu(tmp_path: Path) -> None:
    """It is the scale for the ranges of both."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("Mul", ["x", "ten"], ["b"], "wide"),
        helper.make_node("Add", ["a", "b"], ["s"], "sum"),
        helper.make_node("Conv", ["s", "w"], ["y"], "last"),
    ]
    proto = model(nodes, {"w": random(8, 8, 1, 1), "ten": np.float32([10])}, ["n", 8, 8, 8])
    samples = [x[:, :, :8, :8] for x in images(6)]
    npu = quantize(in_openvino(proto, tmp_path), samples, "NPU")
    first, second = ranges_before(npu, "sum")
    assert first == second
    low, high = (np.mean([10 * end(x) for x in samples]) for end in (np.min, np.max))
    assert first == pytest.approx((low, high), rel=0.02)
    assert not ranges_before(quantize(in_openvino(proto, tmp_path), samples, "CPU"), "sum")


class TestIntegers:
    """Of ONNX models."""

    def test_tensorrt_takes_signed_ones_without_zero_points(self) -> None:
        for opset in (13, 21):
            proto = residual()
            for node in proto.graph.node:
                node.op_type = "Sigmoid" if node.op_type == "HardSwish" else node.op_type
            proto.opset_import[0].version = opset
            result = quantize(proto, images(3), "GPU")
            constants = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
            kinds = {a.i for n in result.graph.node for a in n.attribute if a.name == "output_dtype"}
            points = [constants[n.input[2]] for n in result.graph.node if "Quantize" in n.op_type and len(n.input) > 2]
            assert all(point.dtype == np.int8 and not point.any() for point in points)
            assert kinds == ({onnx.TensorProto.INT8} if opset == 21 else set())
            assert (opset == 21) or points
            assert constants["b0"].dtype == np.float32

    def test_zero_points_that_are_asked_for_are_refused(self) -> None:
        with pytest.raises(
            nncf.ParameterNotSupportedError, match="On target_device GPU activations have no zero points"
        ):
            quantize(residual(), images(2), "GPU", preset=nncf.QuantizationPreset.MIXED)

    def test_on_the_npu_everything_lies_between_quantizers(self) -> None:
        result = quantize(block(), sentences(3), "NPU")
        assert result.graph.node[-1].op_type == "DequantizeLinear"
        graph = nncf.build_graph(result)
        plain = [node for node in graph if node.kind not in QUANTIZERS]
        assert all(is_dequantized(graph, node) for node in plain)
        constants = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
        points = {array.dtype for name, array in constants.items() if name.endswith("_zero_point") and "/" in name}
        assert points == {np.dtype(np.uint8)}


def is_dequantized(graph: Graph, node: Node) -> bool:
    """Whether all operands of an operator, constants, too, come from integers."""
    for port in node.inputs:
        before = graph.producer(port.tensor)
        constant = None if port.constant is None else graph.constants[port.constant]
        if not (before is not None and before.kind in QUANTIZERS) and not (constant and constant.compressed_format):
            return False
    return True


class TestTransformers:
    def normalized(self) -> onnx.ModelProto:
        nodes = [
            helper.make_node("MatMul", ["x", "up"], ["u"], "up"),
            helper.make_node("Add", ["u", "x"], ["s"], "sum"),
            helper.make_node("LayerNormalization", ["s", "ones"], ["l"], "norm"),
            helper.make_node("MatMul", ["l", "up"], ["v"], "second"),
            helper.make_node("Add", ["v", "x"], ["t"], "last_sum"),
            helper.make_node("MatMul", ["t", "up"], ["y"], "third"),
        ]
        constants = {"up": random(64, 64, seed=1), "ones": np.ones(64, np.float32)}
        return model(nodes, constants, ["n", "length", 64])

    def test_sums_that_are_normalized_stay_in_floating_point(self, tmp_path: Path) -> None:
        data = sentences(3)
        network = in_openvino(self.normalized(), tmp_path)
        assert by_type(nncf.build_graph(quantize(network, data, "NPU")))["Add"] == 2
        said = quantize(network, data, "NPU", model_type=ModelType.TRANSFORMER)
        assert by_type(nncf.build_graph(said))["Add"] == 0

    def test_angles_of_rotary_embeddings_stay_in_floating_point(self) -> None:
        nodes = [
            helper.make_node("MatMul", ["x", "frequencies"], ["a"], "angles"),
            helper.make_node("Concat", ["a", "a"], ["c"], "both", axis=-1),
            helper.make_node("Sin", ["c"], ["s"], "sine"),
            helper.make_node("Cos", ["c"], ["o"], "cosine"),
            helper.make_node("Add", ["s", "o"], ["t"], "sum"),
            helper.make_node("MatMul", ["t", "w"], ["y"], "out"),
        ]
        constants = {"frequencies": random(64, 8, seed=1), "w": random(16, 8, seed=2)}
        proto = model(nodes, constants, ["n", "length", 64])
        assert operands(nncf.build_graph(quantize(proto, sentences(3)))) == {"out": 1}


@pytest.mark.parametrize("framework", ["onnx", "openvino", "torch"])
def test_a_device_that_is_not_known(framework: str) -> None:
    with pytest.raises(nncf.ParameterNotSupportedError, match=r"target_device is TPU.* NPU"):
        registry().backends[framework].inserter.quantization_setup("TPU")
