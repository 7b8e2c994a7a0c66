"""The ``nncf`` command on real ONNX files."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("nncf_onnx")
pytest.importorskip("nncf_weight_compression")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from nncf_core.cli import main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two matrix multiplications with an activation between, opset 21."""
    rng = np.random.default_rng(0)
    w0 = rng.standard_normal((64, 128)).astype(np.float32)
    w1 = rng.standard_normal((128, 32)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w0"], ["h"], name="up"),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("MatMul", ["r", "w1"], ["y"], name="down"),
        ],
        "two_layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(w0, "w0"), numpy_helper.from_array(w1, "w1")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def nncf(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def outputs(path: Path) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_compress_weights_writes_a_smaller_model_that_runs(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = nncf("compress-weights", model, "-o", out)
    assert result.exit_code == 0, result.output
    assert out.stat().st_size < 0.4 * model.stat().st_size
    assert "uint8, per channel" in result.stdout
    assert f"Wrote {out}" in result.stdout
    reference = outputs(model)
    np.testing.assert_allclose(outputs(out), reference, atol=0.02 * np.abs(reference).max())


def test_json_holds_figures_and_entries(model: Path, tmp_path: Path) -> None:
    result = nncf(
        "compress-weights", model, "-o", tmp_path / "out.onnx",
        "--mode", "int4_sym", "--group-size", 32, "--all-layers", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert [(e["target"], e["format"], e["group_size"]) for e in data["entries"]] == [
        ("w0", "int4", 32),
        ("w1", "int4", 32),
    ]
    elements = 64 * 128 + 128 * 32
    assert data["bytes_before"] == 4 * elements
    # half a byte for a code, four bytes for the scale of each 32
    assert data["bytes_after"] == elements // 2 + 4 * (elements // 32)
    assert data["bits_per_weight"] == pytest.approx(5)


def test_dry_run_writes_nothing(model: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = nncf("compress-weights", model, "--mode", "int4_sym", "--group-size", 32, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "w0  [64, 128]  int4, group size 32" in result.stdout
    assert "w1  [128, 32]  uint8, per channel" in result.stdout
    assert sorted(tmp_path.iterdir()) == before


def test_run_takes_the_same_settings_from_a_config(model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"compression": {"algorithm": "weight_compression", "mode": "int4_asym", "group_size": 64}})
    )
    by_config, by_options = tmp_path / "a.onnx", tmp_path / "b.onnx"
    assert nncf("run", config, model, "-o", by_config).exit_code == 0
    result = nncf("compress-weights", model, "-o", by_options, "--mode", "int4_asym", "--group-size", 64)
    assert result.exit_code == 0
    assert by_config.read_bytes() == by_options.read_bytes()


def test_bytes_do_not_depend_on_threads(model: Path, tmp_path: Path) -> None:
    files = []
    for threads in (1, 2, 4):
        path = tmp_path / f"{threads}.onnx"
        assert nncf("compress-weights", model, "-o", path, "--threads", threads).exit_code == 0
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]


def test_ignored_nodes_stay_float(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    assert nncf("compress-weights", model, "-o", out, "--ignore", "up").exit_code == 0
    rows = json.loads(nncf("inspect", out, "--json").stdout)["weights"]
    assert {tuple(row["nodes"]): row["format"] for row in rows} == {("up",): "float32", ("down",): "uint8"}


def test_inspect_shows_what_is_compressed(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    nncf("compress-weights", model, "-o", out, "--mode", "int4_sym", "--group-size", 32)
    result = nncf("inspect", out, "--layers")
    assert result.exit_code == 0, result.output
    assert "int4, group size 32" in result.stdout
    assert "uint8, per channel" in result.stdout


def test_compressing_twice_changes_nothing(model: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    nncf("compress-weights", model, "-o", once)
    assert nncf("compress-weights", once, "-o", twice).exit_code == 0
    np.testing.assert_array_equal(outputs(twice), outputs(once))
    assert (
        json.loads(nncf("inspect", twice, "--json").stdout)["bytes_after"]
        == (json.loads(nncf("inspect", once, "--json").stdout)["bytes_after"])
    )


def test_the_input_may_be_overwritten_where_no_lock_needs_it(model: Path) -> None:
    before = model.read_bytes()
    refused = nncf("compress-weights", model, "-o", model)
    assert refused.exit_code == 2
    assert f"Cannot write {model}: it would replace the original model {model}. Name another file." in refused.stderr
    assert model.read_bytes() == before
    assert nncf("compress-weights", model, "-o", model, "--no-lock").exit_code == 0
    assert model.stat().st_size < 0.4 * len(before)
    outputs(model)


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_no_file(model: Path, tmp_path: Path, name: str) -> None:
    code = (
        # under nohup it would be ignored
        f"import signal; signal.signal(signal.{name}, signal.SIG_DFL)\n"
        "from nncf_core.cli import entry; from nncf_onnx.writing import Writer\n"
        f"Writer.finish = lambda *_: signal.raise_signal(signal.{name})\n"
        "entry()"
    )
    arguments = [sys.executable, "-c", code, "compress-weights", str(model), "-o", str(tmp_path / "out.onnx")]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ended.returncode == 128 + getattr(signal, name)
    assert ended.stderr.endswith(f"nncf: stopped by {name}; no file was changed\n")
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.skipif(os.name == "nt", reason="no such shell")
@pytest.mark.parametrize("stream", [1, 2])
def test_a_stream_may_be_closed(model: Path, tmp_path: Path, stream: int) -> None:
    out = tmp_path / "out.onnx"
    command = [sys.executable, "-m", "nncf_core.cli", "compress-weights", str(model), "-o", str(out)]
    ended = subprocess.run(["sh", "-c", f'exec "$@" {stream}>&-', "sh", *command], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    outputs(out)


def test_modes_may_be_written_in_capitals(model: Path, tmp_path: Path) -> None:
    result = nncf("compress-weights", model, "-o", tmp_path / "out.onnx", "--mode", "INT4_SYM", "--group-size", 32)
    assert result.exit_code == 0
    assert "int4, group size 32" in result.stdout


def test_inspect_counts_external_data(model: Path, tmp_path: Path) -> None:
    apart = tmp_path / "apart" / "model.onnx"
    apart.parent.mkdir()
    onnx.save(onnx.load(model), apart, save_as_external_data=True, location="weights", size_threshold=0)
    whole, parts = (json.loads(nncf("inspect", path, "--json").stdout)["file_bytes"] for path in (model, apart))
    assert abs(whole - parts) < 1000
    assert "kB" in nncf("inspect", apart).stdout


def test_a_saved_plan_applies_to_the_model_elsewhere(model: Path, tmp_path: Path) -> None:
    from nncf_core.pipeline import apply_plan
    from nncf_core.plan import Plan

    out, plan = tmp_path / "out.onnx", tmp_path / "plan"
    assert nncf("compress-weights", model, "-o", out, "--save-plan", plan).exit_code == 0
    applied = tmp_path / "applied.onnx"
    onnx.save(apply_plan(Plan.load(plan), onnx.load(model)), applied)
    np.testing.assert_array_equal(outputs(applied), outputs(out))


def test_plugins_lists_what_is_installed() -> None:
    records = {r["name"]: r for r in json.loads(nncf("plugins", "--json").stdout)}
    assert records["onnx"]["distribution"] == "nncf-onnx"
    assert "graph builder onnx" in records["onnx"]["registers"]
    assert records["weight_compression"]["registers"] == ["algorithm weight_compression"]
    assert all(record["error"] is None for record in records.values())
    assert "algorithm weight_compression" in nncf("plugins").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{model}", "-o", "{folder}/missing/out.onnx"], "does not exist"),
        (["{folder}/none.onnx", "-o", "{folder}/out.onnx"], "none.onnx"),
        (
            ["{model}", "-o", "{folder}/out.onnx", "--mode", "int4_sym", "--group-size", "48"],
            "does not divide",
        ),
        (["{model}", "-o", "{folder}/out.onnx", "--ignore", "upp"], "'up'"),
        (["{model}", "-o", "{folder}/out.onnx", "--mode", "int8_sym", "--ratio", "0.5"], "leave out --ratio"),
        (["{model}", "-o", "{folder}/out.onnx", "--mode", "int4_sym", "--ratio", "3"], "error: --ratio: 3.0 is not"),
        (["{model}", "-o", "{folder}/out.onnx", "--mode", "codebook"], "set --codebook"),
        (["{model}", "-o", "{folder}/out.txt"], "ends in .onnx"),
        (["{folder}/model.xml", "-o", "{folder}/out.xml"], "model.xml"),
        (["{model}", "-o", "{folder}/out.onnx", "--backend-param", "weight_fromat=x"], "weight_format"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(model: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    before = sorted(tmp_path.iterdir())
    result = nncf("compress-weights", *(a.format(model=model, folder=tmp_path) for a in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("nncf: error: ")
    assert sorted(tmp_path.iterdir()) == before


def test_usage_errors(model: Path) -> None:
    assert nncf("compress-weights", model).exit_code == 2
    assert nncf("compress-weights", model, "-o", "x.onnx", "--mode", "int5").exit_code == 2


def test_whoever_reads_the_first_line_of_plugins_alone_sees_no_failure() -> None:
    program = Path(sys.executable).with_name("nncf")
    script = f'set -o pipefail; "{program}" plugins | head -1'
    for _ in range(3):
        assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stderr == ""


@pytest.mark.parametrize("command", [[], ["compress-weights"], ["run"], ["inspect"], ["plugins"]])
def test_help(command: list[str]) -> None:
    result = nncf(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_in_a_pipe_progress_is_plain_lines_on_standard_error(model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "nncf_core.cli",
            "compress-weights",
            str(model),
            "-o",
            str(tmp_path / "out.onnx"),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert "Compressing weights to int8_asym: 2/2" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an .npz"), (b"PK\x03\x04 cut off", "not an .npz"), (b"text", "not an .npz"), (None, "no dataset file")],
)
def test_a_broken_dataset_file(model: Path, tmp_path: Path, content: bytes | None, message: str) -> None:
    config, data = tmp_path / "config.json", tmp_path / "data.npz"
    config.write_text(json.dumps({"compression": {"algorithm": "weight_compression"}}))
    if content is not None:
        data.write_bytes(content)
    result = nncf("run", config, model, "-o", tmp_path / "out.onnx", "--dataset", data)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_dataset_that_nothing_needs(model: Path, tmp_path: Path) -> None:
    config, data = tmp_path / "config.json", tmp_path / "data.npz"
    config.write_text(json.dumps({"compression": {"algorithm": "weight_compression"}}))
    np.savez(data, x=np.zeros((4, 64), np.float32))
    assert nncf("run", config, model, "-o", tmp_path / "out.onnx", "--dataset", data).exit_code == 0
    np.savez(data, x=np.zeros((4, 64)), y=np.zeros((3, 2)))
    result = nncf("run", config, model, "-o", tmp_path / "out.onnx", "--dataset", data)
    assert "different numbers of samples" in result.stderr


@pytest.mark.needs("openvino")
def test_commands_leave_the_model_converter_of_openvino_alone(model: Path, tmp_path: Path) -> None:
    import openvino
    from openvino import opset13

    x = opset13.parameter([-1, 64], name="x")
    weight = opset13.constant(np.random.default_rng(0).standard_normal((128, 64)).astype(np.float32))
    openvino.save_model(openvino.Model([opset13.matmul(x, weight, False, True)], [x]), tmp_path / "m.xml")
    script = (
        "import os, sys\n"
        "def leave(code):\n"
        "    os._exit = leave_now\n"
        "    print('openvino' in sys.modules, 'openvino.tools.ovc' in sys.modules, file=sys.stderr)\n"
        "    import openvino\n"  # the converter comes when somebody calls it
        "    print(openvino.convert_model(os.environ['ONNX']).inputs[0].any_name, file=sys.stderr, flush=True)\n"
        "    leave_now(code)\n"
        "leave_now, os._exit = os._exit, leave\n"
        "from nncf_core.cli.main import entry\n"
        "entry()\n"
    )
    command = [sys.executable, "-c", script, "compress-weights", "-q", str(tmp_path / "m.xml"), "-o"]
    environment = {**os.environ, "ONNX": str(model)}
    command.append(str(tmp_path / "out.xml"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == ["True False", "x"], done.stderr
