"""Constants of written models, bit for bit against what edits demanded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from nncf_core.dataset import Dataset
from nncf_core.demands import Codes, Demands, Numbers
from nncf_core.graph import Constant, Graph, Node, OpKind, Port
from nncf_core.holding import held
from nncf_core.numerics.formats import FORMATS, scheme_for
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.observing import Observation
from nncf_core.pipeline import run
from nncf_core.transformations import (
    CompressConstant,
    FoldMask,
    InsertBias,
    InsertLowRank,
    ReplaceConstant,
    ResizeOutput,
    ShrinkConstant,
)
from nncf_core.verification import verify

WEIGHT = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)


def compressed(mode: str, group_size: int = -1, weight: np.ndarray = WEIGHT) -> CompressedTensor:
    return compress(weight, scheme_for(mode), reduction_axes=(1,), group_size=group_size)


def exchanged(tensor: CompressedTensor) -> CompressedTensor:
    """As a backend stores it that keeps weights the other way round."""
    codes = unpack(tensor.codes, tensor.format.bits, tensor.size, signed=False).reshape(tensor.shape)
    points = tensor.zero_point
    return evolve(
        tensor,
        shape=tensor.shape[::-1],
        codes=pack(codes.T, tensor.format.bits),
        scale=tensor.scale.T,
        zero_point=None if points is None else points.T,
    )


def unsigned(tensor: CompressedTensor) -> CompressedTensor:
    """The same numbers in codes without a sign."""
    middle = 1 << (tensor.format.bits - 1)
    codes = unpack(tensor.codes, tensor.format.bits, tensor.size, signed=False) ^ np.uint8(middle)
    points = np.full(tensor.scale.shape, middle, np.uint8)
    return evolve(
        tensor, format=FORMATS[f"u{tensor.format.name}"], codes=pack(codes, tensor.format.bits), zero_point=points
    )


@pytest.mark.parametrize("mode", ["int8_sym", "int8_asym", "int4_sym", "int4_asym", "nf4", "cb4"])
@pytest.mark.parametrize("change", [None, exchanged], ids=["as it is", "exchanged"])
def test_the_same_codes_in_other_orders(
    mode: str, change: Callable[[CompressedTensor], CompressedTensor] | None
) -> None:
    for weight in (WEIGHT, WEIGHT[:, :6]):
        tensor = compressed(mode, weight=weight)
        assert Codes.of(tensor).fault(tensor if change is None else change(tensor)) is None


@pytest.mark.parametrize("mode", ["int8_sym", "int4_sym"])
def test_codes_without_a_sign(mode: str) -> None:
    tensor = compressed(mode)
    other = unsigned(tensor)
    np.testing.assert_array_equal(decompress(tensor), decompress(other))
    assert Codes.of(tensor).fault(other) is None
    assert Codes.of(other).fault(tensor) is None
    assert Codes.of(tensor).fault(evolve(other, zero_point=other.zero_point + np.uint8(1))) is not None


def test_one_scale_for_every_row() -> None:
    tensor = compress(WEIGHT, scheme_for("int8_asym"), reduction_axes=(0, 1))
    assert tensor.zero_point is not None
    rows = evolve(tensor, scale=np.repeat(tensor.scale, 6, axis=0), zero_point=np.repeat(tensor.zero_point, 6, axis=0))
    assert Codes.of(tensor).fault(rows) is None
    rows.scale[3] *= 2
    assert "scales" in str(Codes.of(tensor).fault(rows))


def flipped(array: np.ndarray) -> np.ndarray:
    """With its last bit another one."""
    found = array.copy()
    found.reshape(-1).view(np.uint8)[-1] ^= 1
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: evolve(t, codes=flipped(t.codes)), "other codes"),
        (lambda t: evolve(t, scale=flipped(t.scale)), "other scales"),
        (lambda t: evolve(t, zero_point=flipped(t.zero_point)), "other zero points"),
        (lambda t: evolve(t, format=FORMATS["f8e4m3"]), "codes in f8e4m3, not in uint8"),
        (lambda t: evolve(t, global_scale=2.0), "the global scale 2 in place of 1"),
        (lambda t: compressed("int8_asym", 4), "scales or zero points of the shape (6, 2) in place of (6, 1)"),
        (lambda t: compressed("int8_asym", weight=WEIGHT[:4]), "the shape (4, 8) in place of (6, 8)"),
    ],
)
def test_one_bit_is_enough(change: Callable[[CompressedTensor], CompressedTensor], message: str) -> None:
    tensor = compressed("int8_asym")
    assert Codes.of(tensor).fault(change(tensor)) == message


def test_numbers_are_those_of_the_type_that_they_are_cast_to() -> None:
    values = np.random.default_rng(1).normal(size=(4, 1))
    for name in ("float32", "float16", "bfloat16"):
        demanded, stored = Numbers.of(values, (name,)), values.astype(np.dtype(name))
        assert demanded.fault(stored) is None
        assert demanded.fault(stored.reshape(4)) is None
        assert demanded.fault(flipped(stored)) == "other numbers"
    assert demanded.fault(values) == "float64 in place of bfloat16"
    assert demanded.fault(values.T.repeat(2, 0)) == "the shape (2, 4) in place of (4, 1)"


def constant(name: str, array: np.ndarray, codes: CompressedTensor | None = None) -> Constant:
    read = None if codes is None else (lambda: codes)
    return Constant(name, array.dtype.name, array.shape, lambda: array, compressed=read)


def graph(**arrays: np.ndarray | CompressedTensor) -> Graph:
    """A layer for each constant."""
    constants, nodes = {}, []
    for name, value in arrays.items():
        codes = value if isinstance(value, CompressedTensor) else None
        array = decompress(codes) if codes is not None else np.asarray(value)
        constants[name] = constant(name, array, codes)
        ports = (Port("x"), Port(name, constant=name))
        nodes.append(Node(f"of {name}", "Add", OpKind.ADD, ports, (Port(f"{name}/y"),)))
    return Graph("none", nodes, constants)


def test_what_edits_leave_behind() -> None:
    """Of a sequence of edits the last counts for each constant."""
    table, bias = np.arange(12, dtype=np.float32).reshape(4, 3), np.ones(4, np.float32)
    before = graph(w=WEIGHT, r=table, s=table, m=table, k=table, sizes=np.array([1, 3]))
    demands, tensor = Demands(), compressed("int8_asym")
    demands.begin(before)
    down, up = np.ones((1, 8), np.float32), np.full((6, 1), 2, np.float32)
    for edit in (
        ReplaceConstant("w", WEIGHT * 2),
        CompressConstant("w", tensor),
        CompressConstant("r", compressed("int4_sym", weight=table)),
        ReplaceConstant("r", table * 2),
        ShrinkConstant("s", 0, (0, 2)),
        ShrinkConstant("s", 1, (1,)),
        FoldMask("m"),
        ResizeOutput("of s", ((4, 3),), ((2, 1),)),
        InsertBias("of k", bias),
        InsertLowRank("w", down, up),
    ):
        demands.take(edit, before)
    after = {"w": tensor, "r": table * 2, "s": table[[0, 2]][:, [1]], "m": table * 3, "k": table, "sizes": np.ones(2)}
    after |= {"new bias": bias.astype(np.float16), "a": down, "b": up.T}
    found = held(demands, graph(**after), before)
    assert (found.fault, found.compressed, found.changed, found.kept, found.renamed) == (None, 1, 4, 2, 0)
    assert str(found) == (
        "bit for bit: 1 constants hold their codes, scales and zero points, 4 hold their new numbers, "
        "2 are those of the original"
    )
    for name, message in {
        "w": "the constant 'w' was compressed, but is stored as float32",
        "r": "the constant 'r' was written with other numbers, not with those that it was given",
        "s": "the constant 's' was to stay as it was, but was written with other numbers",
        "k": "the constant 'k' was to stay as it was, but was written with other numbers",
        "new bias": "the bias of the layer 'of k' was written with other numbers, or not at all",
        "b": "a matrix of the branch beside 'w' was written with other numbers, or not at all",
    }.items():
        array = WEIGHT if name == "w" else np.asarray(after[name])
        assert held(demands, graph(**{**after, name: flipped(array)}), before).fault == message
    del after["k"]
    assert held(demands, graph(**after), before).renamed == 1


def test_a_bias_that_a_later_round_changes() -> None:
    before, bias = graph(w=WEIGHT), np.arange(6, dtype=np.float32)
    demands = Demands()
    demands.take(InsertBias("of w", bias), before)
    demands.take(ReplaceConstant("b", bias + 1), graph(w=WEIGHT, b=bias))
    assert held(demands, graph(w=WEIGHT, b=bias + 1), before).fault is None
    assert "'b'" in str(held(demands, graph(w=WEIGHT, b=bias), before).fault)


def test_constants_whose_names_differ_each_time() -> None:
    """What prepares a model may give names that count on; what takes the constants tells which they are."""
    run_names, now = graph(w=WEIGHT), graph(w=WEIGHT)
    demands = Demands()
    demands.begin(run_names)
    node = evolve(now.node("of w"), inputs=(Port("x"), Port("w7", constant="w7")))
    original = Graph("none", (node,), {"w7": constant("w7", WEIGHT)})
    assert held(demands, run_names, original).kept == 1


# on files


def network(path: Path) -> Path:
    """Layers with biases, one without, a table and a normalisation; as PyTorch exports them."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 32, 3, padding=1)
            self.norm, self.first = torch.nn.LayerNorm(32), torch.nn.Linear(32, 128)
            self.second, self.last = torch.nn.Linear(128, 32), torch.nn.Linear(32, 8, bias=False)

        def forward(self, x: Any) -> Any:
            x = self.norm(torch.relu(self.conv(x)).mean((2, 3)))
            return self.last(x + self.second(torch.tanh(self.first(x))))

    torch.manual_seed(0)
    sample = (torch.zeros(2, 3, 8, 8),)
    exported = torch.export.export(Network().eval(), sample, dynamic_shapes={"x": {0: torch.export.Dim("n", max=64)}})
    torch.export.save(exported, path)
    return path


def openvino_network(path: Path) -> Path:
    import openvino
    from openvino import opset13

    generator = np.random.default_rng(0)
    value = inputs = opset13.parameter([-1, 64], np.float32, name="x")
    inputs.output(0).set_names({"x"})
    for index, (size, width) in enumerate([(64, 96), (96, 32)]):
        weight = opset13.constant(generator.normal(size=(width, size)).astype(np.float32) / 8, name=f"w{index}")
        bias = opset13.constant(generator.normal(size=(1, width)).astype(np.float32), name=f"b{index}")
        product = opset13.matmul(value, weight, False, True, name=f"layer{index}")
        value = opset13.relu(opset13.add(product, bias, name=f"add{index}"))
    openvino.save_model(openvino.Model([value], [inputs], "g"), path, compress_to_fp16=False)
    return path


QUANTIZED = {"algorithm": "post_training_quantization", "subset_size": 8}


def emitted(source: Path, shape: tuple[int, ...]) -> tuple[Path, Observation, Dataset[Any, Any]]:
    data = Dataset([np.random.default_rng(i).normal(size=shape).astype(np.float32) for i in range(8)])
    notes, output = Observation(measures=False, verifies=True), source.with_name(f"small{source.suffix}")
    run({"compression": QUANTIZED}, source, dataset=data, output=output, observation=notes)
    return output, notes, data


@pytest.mark.needs("openvino", "nncf_openvino", "nncf_post_training_quantization")
def test_one_byte_of_a_quantized_openvino_model(tmp_path: Path) -> None:
    import openvino

    source = openvino_network(tmp_path / "model.xml")
    output, notes, data = emitted(source, (1, 64))
    certificate = verify(source, output, notes, data)
    assert (
        "2 constants hold their codes, scales and zero points, 2 hold their new numbers" in certificate.checks[0].text
    )
    model, binary = openvino.Core().read_model(output), output.with_suffix(".bin")
    content = binary.read_bytes()
    for node in model.get_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        if kind != "Constant" or name not in ("w0", "w1", "b0", "b1"):
            continue
        place = content.index(node.data.tobytes())
        changed = bytearray(content)
        changed[place + node.data.nbytes // 2] ^= 1
        binary.write_bytes(changed)
        faults = verify(source, output, notes, data).faults
        assert len(faults) == 1 or name in faults[0]
        assert f"the constant {name!r} was written with other" in faults[0]
    binary.write_bytes(content)
    assert verify(source, output, notes, data).passed


@pytest.mark.needs("torch", "nncf_torch", "nncf_post_training_quantization")
def test_one_number_of_a_quantized_torch_model(tmp_path: Path) -> None:
    import torch

    source = network(tmp_path / "model.pt2")
    output, notes, data = emitted(source, (1, 3, 8, 8))
    certificate = verify(source, output, notes, data)
    assert certificate.passed
    assert (
        "4 constants hold their codes, scales and zero points, 3 hold their new numbers" in certificate.checks[0].text
    )
    for name in ("first.weight", "norm.weight"):
        program = torch.export.load(output)
        tensor = program.state_dict[name]
        with torch.no_grad():
            tensor.view(-1)[0] += 1
        changed = tmp_path / "changed.pt2"
        torch.export.save(program, changed)
        (fault, *_) = verify(source, changed, notes, data).faults
        assert f"the constant {name!r} was" in fault


@pytest.mark.needs("onnx", "nncf_onnx", "nncf_post_training_quantization")
def test_one_byte_of_a_quantized_onnx_model(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    nodes, constants, taken = [], [], "x"
    for index, (size, width) in enumerate([(64, 96), (96, 32)]):
        weight, bias = generator.normal(size=(size, width)) / 8, generator.normal(size=width)
        constants += [
            numpy_helper.from_array(array.astype(np.float32), f"{name}{index}")
            for name, array in (("w", weight), ("b", bias))
        ]
        nodes.append(helper.make_node("Gemm", [taken, f"w{index}", f"b{index}"], [f"y{index}"], f"layer{index}"))
        nodes.append(helper.make_node("Relu", [f"y{index}"], [f"z{index}"], f"relu{index}"))
        taken = f"z{index}"
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])]
    outputs = [helper.make_tensor_value_info(taken, TensorProto.FLOAT, [1, 32])]
    made = helper.make_graph(nodes, "g", inputs, outputs, constants)
    source = tmp_path / "model.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), source)
    output, notes, data = emitted(source, (1, 64))
    assert verify(source, output, notes, data).passed
    content = onnx.load(output)
    names = {initializer.name for initializer in content.graph.initializer}
    assert {"w0_quantized", "w0_scale"} <= names
    for name in sorted(names & {"w0_quantized", "w1_quantized", "w0_scale", "b0", "b1"}):
        model = onnx.load(output)
        tensor = next(each for each in model.graph.initializer if each.name == name)
        tensor.CopyFrom(numpy_helper.from_array(flipped(numpy_helper.to_array(tensor)), name))
        changed = tmp_path / "changed.onnx"
        onnx.save(model, changed)
        (fault, *_) = verify(source, changed, notes, data).faults
        assert f"the constant {name.split('_')[0]!r} was" in fault
