"""Tables that only Gather takes: rows of codes are looked up and decompressed, never the whole table."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import nncf
from nncf_core.numerics.kernels import decompress
from nncf_onnx.builder import OnnxGraphBuilder
from nncf_onnx.inserter import OnnxTargetPointInserter

ROWS, COLUMNS = 50, 24
DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def tables(dtype="float32", times=2, output=TensorProto.FLOAT):
    """A model that looks rows of one table up, several times."""
    values = np.random.default_rng(3).normal(0, 0.5, (ROWS, COLUMNS)).astype(np.dtype(dtype))
    names = [f"row{i}" for i in range(times)]
    nodes = [helper.make_node("Gather", ["table", f"i{i}"], [f"taken{i}"], f"look{i}") for i in range(times)]
    nodes += [helper.make_node("Cast", [f"taken{i}"], [name], to=output) for i, name in enumerate(names)]
    graph = helper.make_graph(
        nodes,
        "tables",
        [helper.make_tensor_value_info(f"i{i}", TensorProto.INT64, [f"a{i}", f"b{i}"]) for i in range(times)],
        [helper.make_tensor_value_info(name, output, [f"a{i}", f"b{i}", COLUMNS]) for i, name in enumerate(names)],
        [numpy_helper.from_array(values, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model, **feed):
    return OnnxTargetPointInserter().runner(OnnxGraphBuilder().open(model, {}))(feed)


@pytest.mark.parametrize("mode", [nncf.CompressWeightsMode.INT8_ASYM, nncf.CompressWeightsMode.INT8_SYM])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_decompressed_behind_the_gather(mode, dtype):
    model = tables(dtype)
    small = nncf.compress_weights(model, mode=mode)
    onnx.checker.check_model(small, full_check=dtype != "bfloat16")
    assert "DequantizeLinear" not in {node.op_type for node in small.graph.node}
    constant = nncf.build_graph(small).constants["table"]
    assert (constant.shape, constant.dtype) == ((ROWS, COLUMNS), dtype)
    assert constant.compressed is not None
    expected = decompress(constant.compressed(), dtype)
    indices = np.array([[0, 7, ROWS - 1], [7, 7, 1]])
    found = run(small, i0=indices, i1=indices[:1])
    # onnxruntime leaves out roundings between operators
    close = {"rtol": 0 if dtype == "float32" else float(ml_dtypes.finfo(dtype).eps), "atol": 0}
    np.testing.assert_allclose(found["row0"], expected[indices].astype(np.float32), **close)
    np.testing.assert_allclose(found["row1"], expected[indices[:1]].astype(np.float32), **close)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_it_is_not_compressed_again_and_can_be_made_float_again(dtype):
    model = tables(dtype)
    small = nncf.compress_weights(model)
    assert nncf.compress_weights(small) == small
    restored = nncf.strip(small, strip_format=nncf.StripFormat.IN_PLACE)
    assert [node.op_type for node in restored.graph.node] == [node.op_type for node in model.graph.node]
    indices = np.array([[3, 4]])
    feed = {"i0": indices, "i1": indices}
    close = {"rtol": 0 if dtype == "float32" else 2.0**-10, "atol": 0}
    np.testing.assert_allclose(run(restored, **feed)["row0"], run(small, **feed)["row0"], **close)


def test_bytes_are_those_of_codes_and_scales():
    small = nncf.compress_weights(tables())
    stored = sum(len(i.raw_data) for i in small.graph.initializer if i.name != "table_last_axis")
    assert nncf.build_graph(small).constants["table"].stored_bytes == stored == ROWS * (COLUMNS + 4 + 1)


def test_a_table_that_a_product_takes_too_is_decompressed_as_a_whole():
    model = tables(times=1)
    model.graph.node.append(helper.make_node("Transpose", ["table"], ["head"]))
    model.graph.node.append(helper.make_node("MatMul", ["row0", "head"], ["scores"]))
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["a0", "b0", ROWS]))
    small = nncf.compress_weights(model)
    assert "DequantizeLinear" in {node.op_type for node in small.graph.node}
