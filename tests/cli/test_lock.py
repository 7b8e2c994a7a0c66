"""Lock files, and runs that are done again."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nncf_core.cli import main
from tests.cli.models import MAKERS, onnx_model, rows

FRAMEWORKS = [pytest.param(name, marks=pytest.mark.needs(name, f"nncf_{name}")) for name in MAKERS]
QUANTIZED = '{"compression": {"algorithm": "post_training_quantization", "subset_size": 10}}'


def nncf(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_same_bytes_again(framework: str, tmp_path: Path) -> None:
    make, suffix = MAKERS[framework]
    model, output = make(tmp_path / f"model{suffix}"), tmp_path / "out" / f"small{suffix}"
    output.parent.mkdir()
    options = ("--mode", "int4_asym", "--group-size", 32, "--threads", 1)
    assert nncf("compress-weights", model, "-o", output, *options).exit_code == 0
    lock = output.with_name(f"small{suffix}.lock.json")
    data = json.loads(lock.read_text())
    assert data["model"] == f"../model{suffix}"
    assert data["inputs"][model.name] == digest(model)
    assert data["outputs"] == {path.name: digest(path) for path in output.parent.iterdir() if path != lock}
    assert data["verification"]["passed"]
    assert data["config"]["compression"]["mode"] == "int4_asym"
    assert data["versions"][f"nncf-{framework}"]
    assert data["data"] is None

    # the folder is moved, and the result is there no more
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in tmp_path.glob("model*"):
        shutil.move(path, moved)
    shutil.move(lock.parent, moved)
    there = moved / "out" / lock.name
    for path in there.parent.iterdir():
        if path != there:
            path.unlink()
    result = nncf("reproduce", there, "-o", tmp_path / f"again{suffix}")
    assert result.exit_code == 0, result.output
    assert f"The same bytes: small{suffix}" in result.stdout
    assert digest(tmp_path / f"again{suffix}") == data["outputs"][f"small{suffix}"]
    assert nncf("inspect", tmp_path / f"again{suffix}").exit_code == 0
    assert [path.name for path in there.parent.iterdir()] == [there.name]


@pytest.fixture
def quantized(tmp_path: Path) -> tuple[Path, Path]:
    """The lock file of a run with data, and the data."""
    pytest.importorskip("nncf_post_training_quantization")
    model, data, config = onnx_model(tmp_path / "model.onnx"), tmp_path / "data.npz", tmp_path / "config.json"
    np.savez(data, x=rows())
    config.write_text(QUANTIZED)
    result = nncf("run", config, model, "-o", tmp_path / "small.onnx", "--dataset", data)
    assert result.exit_code == 0, result.output
    return tmp_path / "small.onnx.lock.json", data


def test_with_a_dataset(quantized: tuple[Path, Path]) -> None:
    lock, data = quantized
    assert json.loads(lock.read_text())["data"]["files"] == {"data.npz": digest(data)}
    result = nncf("reproduce", lock, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["same"]
    elsewhere = data.parent / "elsewhere" / "data.npz"
    elsewhere.parent.mkdir()
    data.rename(elsewhere)
    assert "There is no dataset" in nncf("reproduce", lock).stderr
    assert nncf("reproduce", lock, "--dataset", elsewhere).exit_code == 0


def test_other_data_or_another_model(quantized: tuple[Path, Path], tmp_path: Path) -> None:
    lock, data = quantized
    np.savez(data, x=rows() * 2)
    result = nncf("reproduce", lock)
    assert result.exit_code == 1
    assert "differs: the data file data.npz has other bytes" in result.stdout
    assert "was not reproduced" in result.stderr
    np.savez(data, x=rows())
    onnx_model(tmp_path / "model.onnx", name="other{}")
    result = nncf("reproduce", lock, "-o", tmp_path / "again.onnx")
    assert result.exit_code == 1
    assert "the model file model.onnx has other bytes" in result.stderr
    assert not (tmp_path / "again.onnx").exists()


def test_another_version_is_named(quantized: tuple[Path, Path]) -> None:
    lock, _ = quantized
    data = json.loads(lock.read_text())
    data["versions"]["numpy"] = "1.0"
    lock.write_text(json.dumps(data))
    result = nncf("reproduce", lock)
    # the bytes are the same all the same
    assert result.exit_code == 0
    assert f"differs: the version of numpy was 1.0, it is {np.__version__}" in result.stdout
    data["outputs"]["small.onnx"] = "0" * 64
    lock.write_text(json.dumps(data))
    result = nncf("reproduce", lock, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["differences"][1] == "small.onnx has other bytes"
    assert "gives other bytes now: the version of numpy" in result.stderr


def test_items_of_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf_post_training_quantization")
    monkeypatch.chdir(tmp_path)
    source = (
        "import numpy as np\n"
        "def samples():\n"
        "    for i in range(20):\n"
        "        yield {'x': np.full((1, 64), FACTOR * i, np.float32)}\n"
    )
    (tmp_path / "lock_items_one.py").write_text(source.replace("FACTOR", "1"))
    (tmp_path / "lock_items_two.py").write_text(source.replace("FACTOR", "2"))
    (tmp_path / "config.json").write_text(QUANTIZED)
    model = onnx_model(tmp_path / "model.onnx")
    options = ("--dataset", "lock_items_one:samples")
    assert nncf("run", "config.json", model, "-o", tmp_path / "small.onnx", *options).exit_code == 0
    lock = tmp_path / "small.onnx.lock.json"
    data = json.loads(lock.read_text())["data"]
    assert data["files"] == {}
    assert len(data["items"]) == 64
    assert nncf("reproduce", lock).exit_code == 0
    result = nncf("reproduce", lock, "--dataset", "lock_items_two:samples")
    assert result.exit_code == 1
    assert "the function of the dataset gives other items" in result.stdout


def test_without_a_lock(tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "model.onnx")
    assert nncf("compress-weights", model, "-o", tmp_path / "small.onnx", "--no-lock").exit_code == 0
    assert not list(tmp_path.glob("*.lock.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "Cannot read"),
        ("{", "is not JSON"),
        ("[]", "holds a list; a lock file is an object"),
        ('{"nncf_lock": 1}', "is no lock file of nncf"),
        ('{"nncf_lock": 9}', "is a lock file of version 9; this nncf reads version 1"),
    ],
)
def test_what_is_no_lock_file(text: str | None, message: str, tmp_path: Path) -> None:
    lock = tmp_path / "a.lock.json"
    if text is not None:
        lock.write_text(text)
    result = nncf("reproduce", lock)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_model_that_is_gone(tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "model.onnx")
    assert nncf("compress-weights", model, "-o", tmp_path / "small.onnx").exit_code == 0
    model.rename(tmp_path / "renamed.onnx")
    lock = tmp_path / "small.onnx.lock.json"
    assert "give its place with --model" in nncf("reproduce", lock).stderr
    shutil.move(tmp_path / "renamed.onnx", tmp_path / "model.onnx")
    assert nncf("reproduce", lock, "--model", tmp_path / "model.onnx").exit_code == 0
