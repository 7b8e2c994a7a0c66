"""The command with calibration data."""

import json
from itertools import pairwise

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from nncf_core.cli.main import main


@pytest.fixture
def files(tmp_path):
    """A model of three layers, and data for it."""
    generator = np.random.default_rng(0)
    sizes = (64, 96, 64, 16)
    weights = [generator.normal(size=pair).astype(np.float32) / 8 for pair in pairwise(sizes)]
    nodes, tensor = [], "x"
    for index in range(3):
        nodes.append(helper.make_node("MatMul", [tensor, f"w{index}"], [f"y{index}"], name=f"layer{index}"))
        nodes.append(helper.make_node("Relu", [f"y{index}"], [f"z{index}"], name=f"relu{index}"))
        tensor = f"z{index}"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [None, 16])],
        [numpy_helper.from_array(weight, f"w{index}") for index, weight in enumerate(weights)],
    )
    model, data = tmp_path / "model.onnx", tmp_path / "data.npz"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), model)
    rows = generator.normal(size=(40, 64)) * np.linspace(0.1, 3, 64)
    np.savez(data, x=rows.astype(np.float32))
    return model, data


def compress(files, output, *options):
    model, data = files
    arguments = ["compress-weights", str(model), "-o", str(output), "--mode", "int4_asym", "--group-size", "32"]
    return CliRunner().invoke(main, [*arguments, "--dataset", str(data), *options], catch_exceptions=False)


@pytest.mark.needs("nncf_weight_refinement")
@pytest.mark.parametrize("quality", ["best", "max"])
def test_quality(files, tmp_path, quality):
    result = compress(files, tmp_path / "small.onnx", "--quality", quality, "--json")
    assert result.exit_code == 0, result.output
    reasons = [entry["reason"] for entry in json.loads(result.stdout)["entries"] if entry["format"] == "uint4"]
    assert len(reasons) == 2
    assert all("GPTQ" in reason for reason in reasons)
    assert all(("refined" in reason) == (quality == "max") for reason in reasons)


@pytest.mark.needs("nncf_weight_refinement")
def test_work_dir_of_other_settings(files, tmp_path):
    work = str(tmp_path / "work")
    first = compress(files, tmp_path / "a.onnx", "--quality", "max", "--work-dir", work)
    again = compress(files, tmp_path / "b.onnx", "--quality", "max", "--work-dir", work)
    assert first.exit_code == again.exit_code == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    other = compress(files, tmp_path / "c.onnx", "--quality", "max", "--work-dir", work, "--all-layers")
    assert other.exit_code != 0
    assert "another model or settings. Give another --work-dir" in other.output


@pytest.mark.needs("nncf_weight_refinement")
def test_methods_need_data(files, tmp_path):
    result = CliRunner().invoke(
        main,
        [
            "compress-weights",
            str(files[0]),
            "-o",
            str(tmp_path / "a.onnx"),
            "--mode",
            "int4_sym",
            "--group-size",
            "32",
            "--gptq",
        ],
    )
    assert result.exit_code != 0
    assert "needs calibration data; give --dataset" in result.output


@pytest.mark.needs("nncf_weight_refinement")
def test_a_branch_comes_last(files, tmp_path):
    main_section = {"algorithm": "weight_compression", "mode": "int4_asym", "group_size": 32}
    config = {"compression": [main_section, {"algorithm": "lora_correction"}, {"algorithm": "gptq"}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, data = files
    arguments = [
        "run",
        str(tmp_path / "config.json"),
        str(model),
        "-o",
        str(tmp_path / "a.onnx"),
        "--dataset",
        str(data),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert "put the section lora_correction behind all others" in result.output
    assert not (tmp_path / "a.onnx").exists()
