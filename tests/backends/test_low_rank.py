"""Low-rank branches in models that are not quite the usual."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13
from torch import nn

import nncf
from nncf_core.low_rank import values_of
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.registry import registry
from nncf_core.transformations import CompressConstant, InsertLowRank, InsertMultiply, PointKind, TargetPoint

INPUTS, OUTPUTS, RANK = 64, 48, 4
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(OUTPUTS, INPUTS)).astype(np.float32)
BIAS = RANDOM.normal(size=OUTPUTS).astype(np.float32)
EXACT = {"weight_format": "matmul_nbits", "accuracy_level": 0}
X = RANDOM.normal(size=(5, INPUTS)).astype(np.float32)


def matrices(*, integers: bool = True) -> list[Any]:
    generator = np.random.default_rng(1)
    made = [generator.normal(size=shape).astype(np.float32) for shape in ((RANK, INPUTS), (OUTPUTS, RANK))]
    return [compress(each, SCHEMES["int8_asym"], reduction_axes=1) for each in made] if integers else made


def edits(name: str, *, integers: bool = True, turned: bool = False) -> tuple[list[Any], np.ndarray]:
    """A weight of 4 bits with a branch, and the matrix that both stand for."""
    down, up = matrices(integers=integers)
    stored = np.ascontiguousarray(WEIGHT.T) if turned else WEIGHT
    axis = 0 if turned else 1
    tensor = compress(stored, SCHEMES["int4_asym"], reduction_axes=axis, group_axis=axis, group_size=16)
    values = decompress(tensor, np.float32)
    product = values_of(up) @ values_of(down)
    return [CompressConstant(name, tensor), InsertLowRank(name, down, up)], (values.T if turned else values) + product


def edited(model: Any, changes: list[Any], **options: Any) -> Any:
    backend = registry().backend_for(model)
    working = backend.builder.open(model, options)
    graph = backend.builder.build(working)
    return backend.builder.export(backend.inserter.apply(working, graph, changes, options), model)


def takes(model: Any, name: str, **options: Any) -> bool:
    backend = registry().backend_for(model)
    working = backend.builder.open(model, options)
    return backend.inserter.takes_low_rank(working, backend.builder.build(working), name)


def gemm(opset: int = 21, dtype: int = TensorProto.FLOAT, **attributes: Any) -> onnx.ModelProto:
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer", transB=1, **attributes)
    values = [helper.make_tensor_value_info(n, dtype, ["n", size]) for n, size in (("x", INPUTS), ("y", OUTPUTS))]
    constants = [numpy_helper.from_array(array.astype(kind), name) for name, array in (("w", WEIGHT), ("b", BIAS))]
    graph = helper.make_graph([node], "main", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run_onnx(model: onnx.ModelProto) -> np.ndarray:
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    kind = np.float16 if "16" in given.type else np.float32
    return session.run(["y"], {"x": X.astype(kind)})[0]


class TestOnnx:
    @pytest.mark.parametrize("integers", [True, False])
    @pytest.mark.parametrize("backwards", [False, True])
    @pytest.mark.parametrize("opset", [11, 13, 21])
    def test_operators_of_onnxruntime_and_old_opsets(self, opset, backwards, integers):
        changes, matrix = edits("w", integers=integers)
        made = edited(gemm(opset), changes[::-1] if backwards else changes, **EXACT)
        assert sorted({node.op_type for node in made.graph.node} & {"MatMulNBits", "Gemm"}) == ["MatMulNBits"]
        assert ("DequantizeLinear" in {node.op_type for node in made.graph.node}) == integers
        np.testing.assert_allclose(run_onnx(made), X @ matrix.T + BIAS, atol=1e-3 * np.abs(X @ matrix.T).max())

    @pytest.mark.parametrize("integers", [True, False])
    def test_half_precision(self, integers):
        down, up = matrices(integers=integers)
        made = edited(gemm(dtype=TensorProto.FLOAT16), [InsertLowRank("w", down, up)])
        wanted = X @ (WEIGHT + values_of(up) @ values_of(down)).T + BIAS
        assert run_onnx(made).dtype == np.float16
        np.testing.assert_allclose(run_onnx(made), wanted, atol=1e-2 * np.abs(wanted).max())

    def test_a_product_with_a_factor_has_none(self):
        assert takes(gemm(), "w")
        assert takes(gemm(beta=2.0), "w")
        assert not takes(gemm(alpha=2.0), "w")
        assert not takes(gemm(), "b")

    def test_the_stored_matrices_are_found_again(self):
        changes, _ = edits("w")
        backend = registry().backends["onnx"]
        graph = backend.builder.build(backend.builder.open(edited(gemm(), changes), {}))
        formats = [constant.compressed_format for constant in graph.constants.values()]
        assert sorted(filter(None, formats)) == ["uint4", "uint8", "uint8"]
        assert {node.name for node in graph} >= {"layer", "layer/low_rank", "layer/low_rank/down", "layer/low_rank/up"}


class TestOpenVINO:
    def model(self, kind: Any = np.float32, *, half_weight: bool = False) -> openvino.Model:
        given = opset13.parameter([-1, INPUTS], kind, name="x")
        weight: Any = opset13.constant(WEIGHT.astype(np.float16 if half_weight else kind), name="w")
        if half_weight:
            weight = opset13.convert(weight, "f32")
        product = opset13.matmul(given, weight, False, True, name="layer")
        product.output(0).set_names({"y"})
        return openvino.Model([product], [given])

    def run(self, model: openvino.Model, dtype: Any = np.float32) -> np.ndarray:
        exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        return openvino.compile_model(model, "CPU", exact)(X.astype(dtype))["y"]

    @pytest.mark.parametrize("integers", [True, False])
    @pytest.mark.parametrize("half_weight", [True, False])
    def test_weights_in_half_precision(self, half_weight, integers):
        changes, matrix = edits("w", integers=integers)
        made = edited(self.model(half_weight=half_weight), changes)
        np.testing.assert_allclose(self.run(made), X @ matrix.T, atol=2e-3 * np.abs(X @ matrix.T).max())

    @pytest.mark.parametrize("integers", [True, False])
    def test_models_of_half_precision(self, integers):
        changes, matrix = edits("w", integers=integers)
        made = edited(self.model(np.float16), changes)
        np.testing.assert_allclose(self.run(made, np.float16), X @ matrix.T, atol=2e-2 * np.abs(X @ matrix.T).max())

    def test_the_form_is_the_one_that_is_fused(self):
        changes, _ = edits("w")
        compiled = openvino.compile_model(edited(self.model(), changes), "CPU")
        layers = [op.get_rt_info()["layerType"].astype(str) for op in compiled.get_runtime_model().get_ops()]
        assert layers.count("FullyConnected") == 3
        assert not {"Convert", "Subtract", "Multiply"} & {str(layer) for layer in layers}


class Called(nn.Module):
    """A layer that is called with its argument by name, and one whose weight a function takes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.other = nn.Linear(INPUTS, OUTPUTS), nn.Linear(OUTPUTS, INPUTS)
        self.layer.weight.data, self.layer.bias.data = torch.from_numpy(WEIGHT), torch.from_numpy(BIAS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.layer(input=x), self.other.weight)


class TestTorch:
    def test_layers_called_by_name_and_weights_of_functions(self):
        model, example = Called().eval(), torch.from_numpy(X)
        assert takes(model, "layer.weight", example_input=example)
        assert not takes(model, "other.weight", example_input=example)
        changes, matrix = edits("layer.weight")
        made = edited(model, changes, example_input=example)
        wanted = (X @ matrix.T + BIAS) @ model.other.weight.detach().numpy().T
        with torch.no_grad():
            np.testing.assert_allclose(made(example), wanted, atol=1e-4 * np.abs(wanted).max())
        wrong = InsertLowRank("other.weight", np.zeros((2, OUTPUTS), np.float32), np.zeros((INPUTS, 2), np.float32))
        with pytest.raises(nncf.ParameterNotSupportedError, match=r"torch\.export\.export"):
            edited(model, [wrong], example_input=example)

    def test_multiplications_at_both_ends(self):
        """What multiplies the input of a layer is in the branch, too, and what multiplies its output is behind it."""
        model, example = nn.Sequential(nn.Linear(INPUTS, OUTPUTS), nn.ReLU()).eval(), torch.from_numpy(X)
        factors = [np.exp2(np.arange(size) % 3 - 1).astype(np.float32) for size in (INPUTS, OUTPUTS)]
        points = [TargetPoint("0/linear/0", kind) for kind in (PointKind.INPUT, PointKind.OUTPUT)]
        multiplied = edited(
            model, [InsertMultiply(p, f) for p, f in zip(points, factors, strict=True)], example_input=example
        )
        down, up = matrices()
        made = edited(multiplied, [InsertLowRank("0.weight", down, up)], example_input=example)
        weight, bias = (t.detach().numpy() for t in model[0].parameters())
        matrix = weight + values_of(up) @ values_of(down)
        wanted = np.maximum(((X * factors[0]) @ matrix.T + bias) * factors[1], 0)
        with torch.no_grad():
            np.testing.assert_allclose(made(example), wanted, atol=1e-4 * np.abs(wanted).max())

    def test_one_branch_for_each_layer(self):
        model, example = nn.Sequential(nn.Linear(INPUTS, OUTPUTS)).eval(), torch.from_numpy(X)
        down, up = matrices()
        once = edited(model, [InsertLowRank("0.weight", down, up)], example_input=example)
        assert not takes(once, "0.weight", example_input=example)

    def test_shared_layers_share_the_matrices(self):
        first = nn.Linear(INPUTS, INPUTS)
        second = nn.Linear(INPUTS, INPUTS)
        second.weight = first.weight
        model, example = nn.Sequential(first, nn.Tanh(), second).eval(), torch.from_numpy(X)
        generator = np.random.default_rng(1)
        down, up = (generator.normal(size=shape).astype(np.float32) / 8 for shape in ((RANK, INPUTS), (INPUTS, RANK)))
        made = edited(model, [InsertLowRank("0.weight", down, up)], example_input=example)
        assert made[0].nncf_low_rank.down.weight is made[2].nncf_low_rank.down.weight
        matrix = first.weight.detach().numpy() + up @ down
        biases = [layer.bias.detach().numpy() for layer in (first, second)]
        wanted = np.tanh(X @ matrix.T + biases[0]) @ matrix.T + biases[1]
        with torch.no_grad():
            np.testing.assert_allclose(made(example), wanted, atol=1e-4 * np.abs(wanted).max())
        loaded = nncf.torch.load_from_config(model, nncf.torch.get_config(made))
        loaded.load_state_dict(made.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(loaded(example), made(example))
