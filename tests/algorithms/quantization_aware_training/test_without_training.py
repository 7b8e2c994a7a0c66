"""Without a training the same config is post-training quantization, on every backend."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from click.testing import CliRunner

from nncf_core.cli.main import main
from tests.algorithms.quantization_aware_training.test_training import executed, share_right
from tests.backends.digits import accuracy, converted, convolutions, images

CONFIG = {
    "input_info": {"sample_size": [1, 1, 8, 8]},
    "target_device": "CPU",
    "compression": {
        "algorithm": "quantization",
        "preset": "mixed",
        "initializer": {"range": {"num_init_samples": 64, "type": "mean_percentile"}},
        "weights": {"bits": 4},
        "params": {"activations_quant_start_epoch": 0, "weights_quant_start_epoch": 0},
    },
}


@cache
def data() -> np.ndarray:
    return images()[0][:64].numpy()


def run(tmp_path: Path, name: str, name_of_input: str) -> Path:
    """``nncf run``; gives the path of the result."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    np.savez(tmp_path / "data.npz", **{name_of_input: data()})
    output = tmp_path / f"small{Path(name).suffix}"
    # in this process, where layers may be small
    arguments = ["run", tmp_path / "config.json", tmp_path / name, "-o", output, "--dataset", tmp_path / "data.npz"]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output[-3000:]
    assert "quantize" in done.output.lower() or "int8" in done.output.lower(), done.output
    return output


def within(integers: list[np.ndarray], count: int) -> None:
    """So many weights are stored as integers of 4 bits in whole bytes."""
    assert len(integers) == count
    assert all(values.min() >= -8 and values.max() <= 7 for values in integers)


def test_onnx(tmp_path: Path) -> None:
    onnx.save(converted(convolutions(), images()[2][:1], "onnx"), tmp_path / "digits.onnx")
    path = run(tmp_path, "digits.onnx", "x")
    proto = onnx.load(path)
    within(
        [a for i in proto.graph.initializer if (a := onnx.numpy_helper.to_array(i)).dtype == np.int8 and a.ndim > 1], 4
    )
    session = onnxruntime.InferenceSession(path)
    found = np.concatenate([session.run(None, {"x": x[None].numpy()})[0] for x in images()[2]])
    assert share_right(found) > accuracy(convolutions()) - 0.02


def test_openvino(tmp_path: Path) -> None:
    openvino.save_model(converted(convolutions(), images()[2][:1], "openvino"), tmp_path / "digits.xml")
    path = run(tmp_path, "digits.xml", "x")
    model = openvino.Core().read_model(path)
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    within([op.data for op in constants if op.get_element_type().to_string() == "i8" and op.data.ndim > 1], 7)
    ready = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert executed(ready) == {"u8": 8}
    assert share_right(np.concatenate([ready(x[None].numpy())[0] for x in images()[2]])) > 0.96


def test_torch(tmp_path: Path) -> None:
    program = torch.export.export(convolutions(), (images()[2][:1],))
    torch.export.save(program, tmp_path / "digits.pt2")
    path = run(tmp_path, "digits.pt2", "x")
    model = torch.export.load(path).module()
    rounded = Counter(node.target.__name__.split(".")[0] for node in model.graph.nodes if "fake" in str(node.target))
    assert rounded["fake_quantize_per_channel_affine"] >= 7
    with torch.no_grad():
        found = torch.cat([model(x[None]) for x in images()[2]]).numpy()
    assert share_right(found) == pytest.approx(accuracy(convolutions()), abs=0.02)
