"""Models of opsets before 13: they are converted, and otherwise like any others."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import nncf
from tests.backends.onnx.models import random, run


def old(opset: int, ir_version: int) -> onnx.ModelProto:
    """``squeeze(relu(conv(x)))·v``, with metadata; the weights are inputs, too, where the version calls for it."""
    constants = {"w": random(16, 16, 3, 3), "b": random(16), "v": random(36, 40)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Reshape", ["r", "shape"], ["f"], name="reshape"),
        helper.make_node("Squeeze", ["f"], ["s"], name="squeeze", axes=[0]),
        helper.make_node("MatMul", ["s", "v"], ["y"], name="product"),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    initializers.append(numpy_helper.from_array(np.array([1, 16, 36]), "shape"))
    inputs = [helper.make_tensor_value_info("x", 1, ["batch", 16, 6, 6])]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(i.name, i.data_type, list(i.dims)) for i in initializers]
    outputs = [helper.make_tensor_value_info("y", 1, [16, 40])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    helper.set_model_props(made, {"author": "somebody"})
    onnx.checker.check_model(made)
    return made


@pytest.mark.parametrize(("opset", "ir_version"), [(7, 3), (10, 5), (12, 8)])
def test_compression_and_quantization(opset: int, ir_version: int, tmp_path: Path) -> None:
    proto = old(opset, ir_version)
    before, x = proto.SerializeToString(), random(1, 16, 6, 6)
    (wanted,) = run(proto, x=x)
    onnx.save(proto, tmp_path / "old.onnx")
    compressed = nncf.compress_weights(proto, mode=nncf.CompressWeightsMode.INT8_SYM)
    quantized = nncf.quantize(proto, nncf.Dataset([x]))
    from_file = nncf.compress_weights(tmp_path / "old.onnx", mode=nncf.CompressWeightsMode.INT8_SYM)
    from_ir = nncf.compress_weights(ir.from_proto(proto), mode=nncf.CompressWeightsMode.INT8_SYM)
    assert proto.SerializeToString() == before
    for result, tolerance in ((compressed, 0.02), (quantized, 0.05), (from_file, 0.02), (ir.to_proto(from_ir), 0.02)):
        onnx.checker.check_model(result)
        assert result.opset_import[0].version == 13
        assert [p.value for p in result.metadata_props] == ["somebody"]
        assert {node.name for node in proto.graph.node} - {"relu"} <= {node.name for node in result.graph.node}
        assert [value.name for value in result.graph.input] == ["x"]
        (found,) = run(result, x=x)
        assert np.linalg.norm(found - wanted) <= tolerance * np.linalg.norm(wanted)


def test_what_cannot_be_converted() -> None:
    proto = old(12, 8)
    proto.graph.node[1].op_type = "Unheard"
    with pytest.raises(
        nncf.UnsupportedVersionError, match="has opset 12; 13 or later is needed, and onnx cannot convert"
    ):
        nncf.compress_weights(proto)
