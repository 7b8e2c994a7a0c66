"""Small model files that tests of the command use, of every framework that is installed."""

from itertools import pairwise
from pathlib import Path

import numpy as np

SIZES = (64, 96, 64, 16)
"""Inputs and outputs of the layers."""


def weights(sizes: tuple[int, ...] = SIZES) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=pair).astype(np.float32) / 8 for pair in pairwise(sizes)]


def rows(count: int = 40) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, SIZES[0])).astype(np.float32)


def onnx_model(
    path: Path, arrays: list[np.ndarray] | None = None, name: str = "layer{}", *, apart: bool = False
) -> Path:
    """Layers ``x @ w`` with an activation between them; ``apart``: with external data."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    arrays = weights() if arrays is None else arrays
    nodes, tensor = [], "x"
    for index in range(len(arrays)):
        nodes.append(helper.make_node("MatMul", [tensor, f"w{index}"], [f"y{index}"], name=name.format(index)))
        nodes.append(helper.make_node("Relu", [f"y{index}"], [f"z{index}"], name=f"relu{index}"))
        tensor = f"z{index}"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", arrays[0].shape[0]])],
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["n", arrays[-1].shape[1]])],
        [numpy_helper.from_array(weight, f"w{index}") for index, weight in enumerate(arrays)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path, save_as_external_data=apart, location=f"{path.name}.data", size_threshold=0)
    return path


def openvino_model(path: Path, dtype: type = np.float32) -> Path:
    """The same layers."""
    import openvino
    from openvino import opset13

    value = inputs = opset13.parameter([-1, SIZES[0]], dtype, name="x")
    inputs.output(0).set_names({"x"})
    for index, weight in enumerate(weights()):
        constant = opset13.constant(weight.astype(dtype), name=f"w{index}")
        value = opset13.relu(opset13.matmul(value, constant, False, False, name=f"layer{index}"))
    openvino.save_model(openvino.Model([value], [inputs], "g"), path, compress_to_fp16=False)
    return path


def torch_model(path: Path, dtype: str = "float32") -> Path:
    """The same layers."""
    import torch

    layers: list[torch.nn.Module] = []
    for weight in weights():
        layer = torch.nn.Linear(*weight.shape, bias=False)
        layer.weight.data = torch.from_numpy(weight.T.copy())
        layers += [layer, torch.nn.ReLU()]
    kind = getattr(torch, dtype)
    module = torch.nn.Sequential(*layers).eval().to(kind)
    shapes = {"input": {0: torch.export.Dim("n")}}
    torch.export.save(torch.export.export(module, (torch.from_numpy(rows(3)).to(kind),), dynamic_shapes=shapes), path)
    return path


MAKERS = {"onnx": (onnx_model, ".onnx"), "openvino": (openvino_model, ".xml"), "torch": (torch_model, ".pt2")}
"""By framework: what makes a model, and the suffix of its file."""
