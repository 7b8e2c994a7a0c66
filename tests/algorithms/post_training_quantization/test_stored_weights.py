"""Tables and recurrent weights are stored in 8 bits beside integer operators, on every backend that gains by it."""

import numpy as np
import pytest

import nncf
from nncf.quantization.advanced_parameters import QuantizationParameters, QuantizationScheme

ROWS, WIDTH = 200, 48
RANDOM = np.random.default_rng(5)
TABLE = RANDOM.normal(0, 1, (ROWS, WIDTH)).astype(np.float32)
WEIGHT = RANDOM.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32)
ITEMS = [RANDOM.integers(0, ROWS, (1, 9)) for _ in range(8)]


def onnx_model(shape_of_table=False):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Gather", ["table", "i"], ["rows"], "look up"),
        helper.make_node("MatMul", ["rows", "w"], ["y"], "product"),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m", WIDTH])]
    if shape_of_table:
        nodes.append(helper.make_node("Shape", ["table"], ["shape"], "shape"))
        outputs.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [2]))
    graph = helper.make_graph(
        nodes,
        "tables",
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["n", "m"])],
        outputs,
        [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(WEIGHT, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def expected(quantized_table):
    return quantized_table[ITEMS[0]] @ WEIGHT


def nearest(table):
    """Rows rounded to 127 steps up to their largest magnitude: the slow twin."""
    step = np.abs(table).max(axis=1, keepdims=True) / np.float32(127)
    return np.rint(table / step) * step


def check(model, run, name="table", shape=(ROWS, WIDTH)):
    """A model's table has 8 bits, and the rows that it gives are those of the slow twin."""
    constant = nncf.build_graph(model).constants[name]
    assert (constant.compressed_format, constant.shape) == ("int8", shape)
    np.testing.assert_allclose(constant.read(), nearest(TABLE), rtol=0, atol=1e-6)
    # the product rounds its operands and weights to 8 bits itself
    steps = (
        np.abs(TABLE).max() / 127 * np.abs(WEIGHT).sum(axis=0)
        + WIDTH * np.abs(TABLE).max() * np.abs(WEIGHT).max() / 127
    )
    assert (np.abs(run() - expected(nearest(TABLE))) <= steps).all()


@pytest.mark.needs("nncf_onnx")
def test_onnx():
    from nncf_onnx.builder import OnnxGraphBuilder
    from nncf_onnx.inserter import OnnxTargetPointInserter

    model = onnx_model()
    small = nncf.quantize(model, nncf.Dataset([{"i": item} for item in ITEMS]))
    runner = OnnxTargetPointInserter().runner(OnnxGraphBuilder().open(small, {}))
    check(small, lambda: runner({"i": ITEMS[0]})["y"])
    assert len(small.SerializeToString()) < 0.4 * len(model.SerializeToString())


@pytest.mark.needs("nncf_onnx")
@pytest.mark.parametrize("mode", [None, QuantizationScheme.ASYMMETRIC])
def test_one_scale_for_a_table(mode):
    from nncf_onnx.builder import OnnxGraphBuilder
    from nncf_onnx.inserter import OnnxTargetPointInserter

    params = QuantizationParameters(per_channel=False, mode=mode)
    advanced = nncf.AdvancedQuantizationParameters(weights_quantization_params=params)
    small = nncf.quantize(onnx_model(), nncf.Dataset([{"i": item} for item in ITEMS]), advanced_parameters=advanced)
    table = nncf.build_graph(small).constants["table"].read()
    assert np.abs(table - TABLE).max() <= 0.51 * (np.ptp(TABLE) / 255 if mode else np.abs(TABLE).max() / 127)
    runner = OnnxTargetPointInserter().runner(OnnxGraphBuilder().open(small, {}))
    np.testing.assert_allclose(runner({"i": ITEMS[0]})["y"], expected(TABLE), atol=0.2)


@pytest.mark.needs("nncf_openvino", "onnx")
@pytest.mark.parametrize("shape_of_table", [False, True])
def test_openvino(shape_of_table):
    import openvino

    small = nncf.quantize(
        openvino.Core().read_model(onnx_model(shape_of_table).SerializeToString()), nncf.Dataset(ITEMS)
    )
    compiled = openvino.Core().compile_model(small, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    check(small, lambda: compiled(ITEMS[0])[0])


@pytest.mark.needs("nncf_torch")
def test_torch():
    import torch

    model = torch.nn.Sequential(torch.nn.Embedding(ROWS, WIDTH), torch.nn.Linear(WIDTH, WIDTH, bias=False)).eval()
    model[0].weight.data, model[1].weight.data = torch.from_numpy(TABLE.copy()), torch.from_numpy(WEIGHT.T.copy())
    small = nncf.quantize(model, nncf.Dataset([torch.from_numpy(item) for item in ITEMS]))
    check(small, lambda: small(torch.from_numpy(ITEMS[0])).detach().numpy(), "0.weight")
    # trains on: the table keeps its float values
    assert any(parameter is small[0].weight for parameter in small.parameters())


@pytest.mark.needs("nncf_onnx")
def test_ignored_tables_stay_as_they_are():
    scope = nncf.IgnoredScope(names=["look up"])
    small = nncf.quantize(onnx_model(), nncf.Dataset([{"i": item} for item in ITEMS]), ignored_scope=scope)
    assert nncf.build_graph(small).constants["table"].compressed_format is None


@pytest.mark.needs("nncf_onnx")
def test_recurrent_weights_run_in_onnxruntime():
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    hidden = 32
    weights = {
        "w": RANDOM.normal(0, 0.3, (1, 4 * hidden, WIDTH)).astype(np.float32),
        "r": RANDOM.normal(0, 0.3, (1, 4 * hidden, hidden)).astype(np.float32),
        "m": RANDOM.normal(0, 0.3, (hidden, 64)).astype(np.float32),
    }
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], "lstm", hidden_size=hidden),
        helper.make_node("MatMul", ["h", "m"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6, 1, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 64])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    items = [{"x": RANDOM.normal(0, 1, (6, 1, WIDTH)).astype(np.float32)} for _ in range(8)]
    small = nncf.quantize(model, nncf.Dataset(items))
    constants = nncf.build_graph(small).constants
    assert {constants[name].compressed_format for name in weights} == {"int8"}
    found, exact = (onnxruntime.InferenceSession(m.SerializeToString()).run(None, items[0])[0] for m in (small, model))
    # states are at most 1, and errors of the gates are at most a few steps
    assert 0 < np.abs(found - exact).max() < 0.1 * np.abs(exact).max()
