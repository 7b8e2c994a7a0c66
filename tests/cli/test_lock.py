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


def test_data_of_another_name(quantized: tuple[Path, Path]) -> None:
    lock, data = quantized
    assert nncf("reproduce", lock, "--dataset", data.rename(data.with_name("moved.npz"))).exit_code == 0


def test_a_result_that_was_changed_since(quantized: tuple[Path, Path]) -> None:
    lock, _ = quantized
    output = lock.with_name("small.onnx")
    output.write_bytes(output.read_bytes() + b"x")
    result = nncf("reproduce", lock)
    assert result.exit_code == 1
    assert f"differs: {output} has other bytes than the run wrote" in result.stdout
    output.unlink()
    assert (
        "The same bytes: small.onnx (small.onnx no longer beside small.onnx.lock.json)"
        in nncf("reproduce", lock).stdout
    )


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


DIGEST = "0" * 64
LOCK = {
    "nncf_lock": 1,
    "model": "model.onnx",
    "inputs": {"model.onnx": DIGEST},
    "data": None,
    "config": {"compression": {"algorithm": "weight_compression"}},
    "versions": {"numpy": "1"},
    "output": "small.onnx",
    "outputs": {"small.onnx": DIGEST},
    "verification": None,
    "metric": None,
}
DATA = {"source": "d.npz", "options": {}, "files": {"d.npz": DIGEST}, "items": ""}
METRIC = {"function": "m:f", "file": "m.py", "digest": DIGEST, "data": DATA}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "Cannot read the lock file"),
        (b"\xff\xfe", "it is not text in UTF-8"),
        (b"{", "is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        (b"[]", "holds a list; a lock file is an object"),
        (b'{"compression": {}}', "it has no key 'nncf_lock'; give OUTPUT.lock.json"),
        (b'{"nncf_lock": 9}', "is a lock file of version 9; this nncf reads version 1"),
        (b'{"nncf_lock": 1}', "model is missing"),
        (b'{"nncf_lock": 1, "nncf_lock": 1}', "the key 'nncf_lock' is given twice"),
    ],
)
def test_what_is_no_lock_file(text: bytes | None, message: str, tmp_path: Path) -> None:
    lock = tmp_path / "a.lock.json"
    if text is not None:
        lock.write_bytes(text)
    result = nncf("reproduce", lock)
    assert result.exit_code == 2
    assert message in result.stderr
    assert str(lock) in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({name: ...}, f"{name} is missing")
            for name in LOCK
            if name not in ("nncf_lock", *("data", "metric"), "verification")
        ),
        ({"model": 3}, "model is 3; it must be a text"),
        ({"config": []}, "config is []; it must be an object"),
        ({"data": "d.npz"}, "data is 'd.npz'; it must be an object"),
        ({"data": {**DATA, "source": None}}, "data.source is None; it must be a text"),
        ({"data": {**DATA, "options": {"a": 1}}}, "data.options.a is 1; it must be a text"),
        ({"data": {**DATA, "files": {"d.npz": "0"}}}, "data.files.d.npz is '0'; it must be a SHA-256"),
        ({"data": {**DATA, "items": "x"}}, "data.items is 'x'; it must be a SHA-256"),
        ({"inputs": {"model.onnx": DIGEST.upper().replace("0", "G")}}, "inputs.model.onnx is 'GGG"),
        ({"outputs": {"../small.onnx": DIGEST}}, "outputs.../small.onnx is no name of a file beside the model"),
        ({"outputs": {"other.onnx": DIGEST}}, "outputs has no digest of 'small.onnx'"),
        ({"metric": {**METRIC, "digest": 1}}, "metric.digest is 1; it must be a text"),
        ({"metric": {**METRIC, "data": None}}, "metric.data is missing"),
        ({"metric": {**METRIC, "seed": 1}}, "metric.seed is a key that lock files do not have"),
        ({"seed": 1}, "seed is a key that lock files do not have"),
    ],
)
def test_lock_files_with_something_wrong(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    lock = tmp_path / "a.lock.json"
    data = {name: value for name, value in {**LOCK, **changes}.items() if value is not ...}
    lock.write_text(json.dumps(data))
    result = nncf("reproduce", lock)
    assert result.exit_code == 2
    assert f"{lock} is no lock file of nncf: {message}" in result.stderr


def test_edited_digests(tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "model.onnx")
    assert nncf("compress-weights", model, "-o", tmp_path / "small.onnx").exit_code == 0
    lock = tmp_path / "small.onnx.lock.json"
    known = json.loads(lock.read_text())
    lock.write_text(json.dumps({**known, "inputs": {"model.onnx": DIGEST}}))
    result = nncf("reproduce", lock)
    assert (result.exit_code, "the model file model.onnx has other bytes" in result.stderr) == (1, True)
    lock.write_text(json.dumps({**known, "outputs": {"small.onnx": DIGEST}}))
    result = nncf("reproduce", lock)
    assert (result.exit_code, "gives other bytes now: small.onnx has other bytes" in result.stderr) == (1, True)


def test_a_lock_file_of_an_earlier_run_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, small = onnx_model(tmp_path / "model.onnx"), tmp_path / "small.onnx"
    for options, told in (["--no-lock"], False), ([], False), (["--no-lock"], True):
        caplog.clear()
        assert nncf("compress-weights", model, "-o", small, *options).exit_code == 0
        assert (f"{small}.lock.json is of an earlier run, and not of this model." in caplog.text) is told


@pytest.mark.parametrize("option", ["--dataset", "--validation-dataset"])
def test_data_that_the_run_did_not_have(option: str, tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "model.onnx")
    assert nncf("compress-weights", model, "-o", tmp_path / "small.onnx").exit_code == 0
    np.savez(tmp_path / "data.npz", x=rows())
    result = nncf("reproduce", tmp_path / "small.onnx.lock.json", option, tmp_path / "data.npz")
    assert result.exit_code == 2
    assert f"data.npz: the run of the lock file had no such data; leave out {option}." in result.stderr


def test_its_own_inputs_are_not_replaced(quantized: tuple[Path, Path], tmp_path: Path) -> None:
    lock, _ = quantized
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for name, what in {"model.onnx": "original model", "data.npz": "dataset", lock.name: "lock file"}.items():
        result = nncf("reproduce", lock, "-o", tmp_path / name)
        assert result.exit_code == 2
        assert f"it would replace the {what} {tmp_path / name}" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    # the result may be
    assert nncf("reproduce", lock, "-o", tmp_path / "small.onnx").exit_code == 0


@pytest.mark.needs("openvino", "nncf_openvino")
def test_no_file_of_the_model_is_replaced(tmp_path: Path) -> None:
    model = MAKERS["openvino"][0](tmp_path / "model.xml")
    (tmp_path / "out").mkdir()
    assert nncf("compress-weights", model, "-o", tmp_path / "out/model.xml").exit_code == 0
    result = nncf("reproduce", tmp_path / "out/model.xml.lock.json", "-o", model)
    assert result.exit_code == 2
    assert "it would replace the original model" in result.stderr


METRICS = """
import numpy as np

def error(model, items):
    name = model.get_inputs()[0].name
    return -float(np.mean([np.square(model.run(None, {name: item["x"]})[0]).mean() for item in items]))
"""


def test_runs_with_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf_accuracy_control")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "lock_metrics.py").write_text(METRICS)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    model = onnx_model(tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=rows(8))
    np.savez(tmp_path / "more.npz", x=rows(12))
    options = ("--dataset", "data.npz", "--validation", "lock_metrics:error", "--validation-dataset", "more.npz")
    result = nncf("quantize", model, "-o", "small.onnx", *options, "--max-drop", 1e-6, "--sensitivity-report", "report")
    assert result.exit_code == 0, result.output
    lock = tmp_path / "small.onnx.lock.json"
    metric = json.loads(lock.read_text())["metric"]
    assert metric["digest"] == digest(tmp_path / "code" / "lock_metrics.py")
    assert (metric["function"], metric["file"]) == ("lock_metrics:error", "code/lock_metrics.py")
    assert metric["data"]["files"] == {"more.npz": digest(tmp_path / "more.npz")}
    shutil.rmtree(tmp_path / "report")
    result = nncf("reproduce", lock)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "report").exists()
    # data and function are looked at before anything runs
    np.savez(tmp_path / "more.npz", x=rows(11))
    assert "the file of the validation data more.npz has other bytes" in nncf("reproduce", lock).stderr
    np.savez(tmp_path / "more.npz", x=rows(12))
    (tmp_path / "code" / "lock_metrics.py").write_text(METRICS.replace("-float", "float"))
    result = nncf("reproduce", lock)
    assert result.exit_code == 1
    assert "the file code/lock_metrics.py of the function lock_metrics:error has other bytes" in result.stderr
    (tmp_path / "code" / "lock_metrics.py").unlink()
    result = nncf("reproduce", lock)
    assert result.exit_code == 2
    assert "which defined the run's function lock_metrics:error; put it there" in result.stderr


def test_a_metric_without_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf_accuracy_control")
    monkeypatch.chdir(tmp_path)
    model = onnx_model(tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=rows(8))
    options = ("--dataset", "data.npz", "--validation", "math:dist", "--max-drop", 0.1)
    result = nncf("quantize", model, "-o", "small.onnx", *options)
    assert result.exit_code == 2
    assert "The function math:dist has no source file" in result.stderr
    assert "--no-lock" in result.stderr


def test_a_model_that_is_gone(tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "model.onnx")
    assert nncf("compress-weights", model, "-o", tmp_path / "small.onnx").exit_code == 0
    model.rename(tmp_path / "renamed.onnx")
    lock = tmp_path / "small.onnx.lock.json"
    assert "give its place with --model" in nncf("reproduce", lock).stderr
    shutil.move(tmp_path / "renamed.onnx", tmp_path / "model.onnx")
    assert nncf("reproduce", lock, "--model", tmp_path / "model.onnx").exit_code == 0
