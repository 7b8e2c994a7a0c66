"""Weights of LSTM, GRU and RNN: the same integers in ONNX, OpenVINO and PyTorch, and the outputs they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import nncf
from nncf_core.numerics.packing import unpack

STEPS, BATCH, INPUTS, HIDDEN = 7, 2, 40, 48
# gates in ONNX's order, by their places in PyTorch's: i f g o, r z n
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
MODULES = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
BOTH = pytest.mark.parametrize("directions", [1, 2])
KINDS = pytest.mark.parametrize("kind", MODULES)


def torch_model(kind: str, directions: int) -> nn.Module:
    torch.manual_seed(0)
    return MODULES[kind](INPUTS, HIDDEN, bidirectional=directions == 2).eval()


def onnx_model(kind: str, module: nn.Module, directions: int, opset: int = 17) -> onnx.ModelProto:
    def gathered(name: str) -> np.ndarray:
        parts = [getattr(module, f"{name}_l0{suffix}") for suffix in ("", "_reverse")[:directions]]
        arrays = [part.detach().numpy().reshape(len(GATES[kind]), HIDDEN, -1)[list(GATES[kind])] for part in parts]
        return np.stack([array.reshape(array.shape[0] * HIDDEN, -1) for array in arrays])

    biases = np.concatenate([gathered("bias_ih")[..., 0], gathered("bias_hh")[..., 0]], axis=1)
    constants = {"W": gathered("weight_ih"), "R": gathered("weight_hh"), "B": biases}
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    direction = "bidirectional" if directions == 2 else "forward"
    node = helper.make_node(kind, ["x", *constants], ["y"], kind, hidden_size=HIDDEN, direction=direction, **more)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, BATCH, INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [STEPS, directions, BATCH, HIDDEN])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model: Any, x: np.ndarray) -> np.ndarray:
    """The outputs ``[steps, directions, batch, hidden]``."""
    if isinstance(model, nn.Module):
        with torch.no_grad():
            y = model(torch.from_numpy(x))[0].numpy()
        return y.reshape(STEPS, BATCH, -1, HIDDEN).transpose(0, 2, 1, 3)
    if isinstance(model, onnx.ModelProto):
        return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    return np.array(openvino.compile_model(model, "CPU", EXACT)([x])[0])


def rows(model: Any) -> list[bytes]:
    """Codes, scale and zero point of every output channel, in an order that does not depend on that of gates."""
    found = []
    for constant in nncf.build_graph(model).constants.values():
        if constant.compressed is None:
            continue
        tensor = constant.compressed()
        codes = unpack(tensor.codes, 8, tensor.size, tensor.format.signed).reshape(-1, tensor.shape[-1])
        for code, scale, point in zip(codes, tensor.scale.reshape(-1), tensor.zero_point.reshape(-1), strict=True):
            found.append(code.tobytes() + np.float32(scale).tobytes() + np.uint8(point).tobytes())
    return sorted(found)


@KINDS
@BOTH
def test_the_same_integers_and_outputs_everywhere(kind: str, directions: int, tmp_path: Path) -> None:
    module, x = torch_model(kind, directions), np.random.default_rng(0).normal(size=(STEPS, BATCH, INPUTS))
    proto, x = onnx_model(kind, module, directions), x.astype(np.float32)
    onnx.save(proto, tmp_path / "model.onnx")
    models = [module, proto, openvino.convert_model(tmp_path / "model.onnx")]
    compressed = [nncf.compress_weights(model) for model in models]
    assert len(rows(compressed[0])) == 2 * directions * len(GATES[kind]) * HIDDEN
    assert rows(compressed[0]) == rows(compressed[1]) == rows(compressed[2])
    plain = run(module, x)
    restored = run(nncf.strip(compressed[0], strip_format=nncf.StripFormat.IN_PLACE), x)
    assert 1e-4 < np.abs(restored - plain).max() < 0.05
    for model in compressed:
        np.testing.assert_allclose(run(model, x), restored, atol=2e-6)


@KINDS
@BOTH
@pytest.mark.parametrize("opset", [13, 21])
def test_onnxruntime_has_the_weights_ready_before_it_runs(kind: str, directions: int, opset: int) -> None:
    """It does not fold DequantizeLinear, and would decompress at each run."""
    proto = onnx_model(kind, torch_model(kind, directions), directions, opset)
    small = nncf.compress_weights(proto, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=8)
    assert sorted(node.op_type for node in small.graph.node) == sorted(["Cast", "Sub", "Mul"] * 2 + [kind])
    assert small.ByteSize() < 0.5 * proto.ByteSize()
    asked = nncf.AdvancedCompressionParameters(backend_params={"weight_format": "dequantize_linear"})
    standard = nncf.compress_weights(proto, advanced_parameters=asked)
    x = np.random.default_rng(0).normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32)
    np.testing.assert_allclose(run(standard, x), run(small, x), atol=2e-6)
