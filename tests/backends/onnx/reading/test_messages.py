"""What is told of models that are not well formed: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("nncf_onnx")

import onnx
from onnx import TensorProto

import nncf
from tests.backends.onnx import models
from tests.backends.onnx.models import random
from tests.backends.onnx.reading.files import broken


def weight(proto: onnx.ModelProto) -> TensorProto:
    return proto.graph.initializer[0]


def unknown_type(proto: onnx.ModelProto) -> None:
    weight(proto).data_type = 99


def negative_size(proto: onnx.ModelProto) -> None:
    weight(proto).dims[0] = -64


def strings_as_bytes(proto: onnx.ModelProto) -> None:
    weight(proto).data_type = TensorProto.STRING


def no_location(proto: onnx.ModelProto) -> None:
    weight(proto).data_location = TensorProto.EXTERNAL
    weight(proto).ClearField("raw_data")


def no_number_of_bytes(proto: onnx.ModelProto) -> None:
    no_location(proto)
    for key, value in (("location", "weights.bin"), ("offset", "some")):
        weight(proto).external_data.add(key=key, value=value)


def fewer_bytes(proto: onnx.ModelProto) -> None:
    weight(proto).raw_data = weight(proto).raw_data[:-4]


def two_inputs(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(proto.graph.input[0])


def two_producers(proto: onnx.ModelProto) -> None:
    proto.graph.node.add(op_type="Relu", input=["x"], output=["y"], name="again")


def no_producer(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "lost"


def no_opset(proto: onnx.ModelProto) -> None:
    del proto.opset_import[:]
    proto.opset_import.add(domain="custom", version=1)


def newer(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 999


def no_value(proto: onnx.ModelProto) -> None:
    proto.graph.node.add(op_type="Constant", output=["c"])


CASES: list[tuple[Callable[[onnx.ModelProto], None], list[str]]] = [
    (unknown_type, ["'w'", "element type 99", "update onnx"]),
    (negative_size, ["'w'", "[-64, 32]", "sizes are 0 or more"]),
    (strings_as_bytes, ["'w'", "given as bytes", "string_data"]),
    (no_location, ["'w'", "no location", "onnx.save_model"]),
    (no_number_of_bytes, ["'w'", "'weights.bin'", "offset 'some'", "no number of bytes"]),
    (fewer_bytes, ["'w'", "8188 bytes", "need 8192"]),
    (two_inputs, ["two inputs", "'x'"]),
    (two_producers, ["'y'", "again", "produced by"]),
    (no_producer, ["'lost'", "an initializer or a node is missing"]),
    (no_opset, ["no opset of the default domain", "make_opsetid"]),
    (newer, ["opset 999", "Update onnx, or export the model"]),
    (no_value, ["not a valid ONNX model", "Constant node", "exactly one attribute"]),
]


@pytest.mark.parametrize(("change", "parts"), CASES, ids=[change.__name__ for change, _ in CASES])
def test_what_where_and_what_to_do(change: Callable[[onnx.ModelProto], None], parts: list[str], tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    change(proto)
    message = broken(proto, tmp_path)
    assert "broken.onnx" in message
    assert [part for part in parts if part not in message] == [], message


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(nncf.UnsupportedModelError, match=r"empty\.onnx is empty; copy or export the model again"):
        nncf.compress_weights(tmp_path / "empty.onnx")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"weight_format": "some"}, ["weight_format is 'some'", "it must be one of"]),
        ({"accuracy_level": 7}, ["accuracy_level is 7", "0 to 4"]),
        ({"external_data_dir": "here"}, ["external_data_dir is 'here'", "absolute path"]),
        ({"nothing": 1}, ["does not know 'nothing'", "it knows"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_options_of_the_backend(options: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(nncf.ValidationError) as caught:
        nncf.compress_weights(
            models.matmul(random(64, 32)),
            advanced_parameters=nncf.AdvancedCompressionParameters(backend_params=options),
        )
    assert [part for part in ["backend_params", *parts] if part not in str(caught.value)] == [], str(caught.value)
