"""Files of a run take their places together, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import nncf_core.pipeline
from nncf_core.cli import main
from nncf_core.cli.outcome import Places
from nncf_core.errors import InvalidPathError
from tests.cli.models import onnx_model, openvino_model, rows


def nncf(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


@pytest.fixture
def unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No work is to begin."""

    def run(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr("nncf_core.pipeline.run", run)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("taken.html", "File '{folder}/taken.html' is a directory."),
        ("taken.html/../small.onnx.lock.json", "it would replace the lock file {folder}/small.onnx.lock.json"),
        ("missing/report.html", "the folder {folder}/missing does not exist; make it, or name another."),
        ("file.txt/report.html", "the folder {folder}/file.txt does not exist"),
        ("report.pdf", "its name must end in .html or .json."),
        ("small.onnx.lock.json", "it would replace the lock file {folder}/small.onnx.lock.json"),
    ],
)
def test_places_are_looked_at_before_the_work(unwanted: None, report: str, message: str, tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "model.onnx")
    (tmp_path / "taken.html").mkdir()
    (tmp_path / "file.txt").write_text("text")
    before = contents(tmp_path)
    result = nncf("compress-weights", model, "-o", tmp_path / "small.onnx", "--report", tmp_path / report)
    assert result.exit_code == 2
    assert message.format(folder=tmp_path) in result.stderr
    assert contents(tmp_path) == before


def test_files_that_a_run_reads_stay(tmp_path: Path) -> None:
    model, output = tmp_path / "model.onnx", tmp_path / "small.onnx"
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "tokenizer.json")
    options = {"lock": True, "dataset": "d.json", "dataset_options": (f"tokenizer={tmp_path / 'tokenizer.json'}",)}
    report = tmp_path / "folder/../tokenizer.json"
    with pytest.raises(InvalidPathError, match=r"would replace the file of a --dataset-option .*tokenizer\.json\."):
        Places.of(model, output, {**options, "report_file": report})
    # a link is replaced, not what it leads to
    assert Places.of(model, output, {**options, "report_file": tmp_path / "link.json"}).report is not None


def test_a_folder_that_cannot_be_written_to(unwanted: None, tmp_path: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no folder that nobody may write to")
    model = onnx_model(tmp_path / "model.onnx")
    result = nncf("compress-weights", model, "-o", tmp_path / "small.onnx", "--report", "/proc/self/report.html")
    assert result.exit_code == 2
    assert "Cannot write /proc/self/report.html: " in result.stderr
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize("verify", ["--verify", "--no-verify"])
@pytest.mark.parametrize("broken", ["nncf_core.report_page.Account.text", "nncf_core.locking.Lock.text"])
def test_a_failure_leaves_everything_as_it_was(
    broken: str, verify: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last file to be written fails, for want of space, say."""
    model = onnx_model(tmp_path / "model.onnx")
    for name in ("small.onnx", "small.onnx.lock.json", "report.json"):
        (tmp_path / name).write_text("of an earlier run")
    before = contents(tmp_path)

    def fail(*_: object) -> str:
        from nncf_core.errors import InternalError

        raise InternalError("no space is left")

    monkeypatch.setattr(broken, fail)
    arguments = ("compress-weights", model, "-o", tmp_path / "small.onnx", "--report", tmp_path / "report.json", verify)
    result = nncf(*arguments)
    assert result.exit_code == 1
    assert contents(tmp_path) == before
    monkeypatch.undo()
    assert nncf(*arguments).exit_code == 0
    assert {name for name, content in contents(tmp_path).items() if content != before.get(name)} == {
        "small.onnx", "small.onnx.lock.json", "report.json",
    }  # fmt: skip


METRICS = """
calls = [0]

def metric(model, items):
    list(items)
    calls[0] += 1
    if calls[0] > 2:
        raise RuntimeError("boom")
    return 1.0 - calls[0]
"""


def test_the_best_model_where_the_metric_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf_accuracy_control")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outcome_metrics.py").write_text(METRICS)
    model = onnx_model(tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=rows(8))
    result = nncf(
        "quantize", model, "-o", "small.onnx", "--dataset", "data.npz",
        "--validation", "outcome_metrics:metric", "--max-drop", 0.1,
    )  # fmt: skip
    assert result.exit_code == 1
    assert "boom" in result.stderr
    assert ". The best model so far, with the metric " in result.stderr
    assert result.stderr.endswith(" was written to small.best.onnx.\n")
    assert "error.best_model" not in result.stderr
    assert nncf("inspect", "small.best.onnx").exit_code == 0
    assert not Path("small.onnx").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".tmp", ".lock.json"))]


ITEMS: dict[str, Any] = {"shape": np.ones((3, 7), np.float32), "name": None}


@pytest.mark.parametrize("wrong", list(ITEMS))
def test_a_dataset_that_the_original_does_not_take(wrong: str, tmp_path: Path) -> None:
    """Compressing needs no data here, so that nothing else notices."""
    model, data = onnx_model(tmp_path / "model.onnx"), tmp_path / "data.npz"
    if wrong == "shape":
        np.savez(data, x=ITEMS["shape"])
    else:
        np.savez(data, other=rows(3))
    result = nncf("compress-weights", model, "-o", tmp_path / "small.onnx", "--dataset", data)
    assert result.exit_code == 2
    said = {"shape": "the input 'x' takes float32 [n, 64], and is given float32 [1, 7]", "name": "the keys ['other']"}
    assert "nncf: error: Item 0 of the dataset " in result.stderr
    assert said[wrong] in result.stderr
    assert not (tmp_path / "small.onnx").exists()


def test_the_config_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nncf_core.config.nncf_config import NNCFConfig

    model, config, counted = onnx_model(tmp_path / "model.onnx"), tmp_path / "config.json", []
    plain = NNCFConfig.validate

    def validate(data: Any) -> None:
        counted.append(data)
        plain(data)

    monkeypatch.setattr(NNCFConfig, "validate", staticmethod(validate))
    assert nncf("compress-weights", model, "-o", tmp_path / "small.onnx").exit_code == 0
    config.write_text(json.dumps({"compression": {"algorithm": "weight_compression"}}))
    assert nncf("run", config, model, "-o", tmp_path / "small.onnx").exit_code == 0
    assert len(counted) == 2


@pytest.mark.needs("nncf_openvino")
def test_a_folder_in_place_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = openvino_model(tmp_path / "model.xml")
    (tmp_path / "small.bin").mkdir()
    monkeypatch.setattr(nncf_core.pipeline, "run", lambda *_, **__: pytest.fail("the model was compressed first"))
    result = CliRunner().invoke(main, ["compress-weights", str(model), "-o", str(tmp_path / "small.xml")])
    assert result.exit_code == 2
    assert f"Cannot write {tmp_path / 'small.bin'}, a file of the model: it is a folder; remove it" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"model.xml", "model.bin", "small.bin"}


def test_backend_params_of_another_kind(tmp_path: Path) -> None:
    model, config = onnx_model(tmp_path / "model.onnx"), tmp_path / "config.json"
    config.write_text(json.dumps({"compression": {"algorithm": "weight_compression"}, "backend_params": [1]}))
    result = nncf("run", config, model, "-o", tmp_path / "small.onnx", "--backend-param", "weight_format=auto")
    assert result.exit_code == 2
    assert "backend_params" in result.stderr
    shutil.rmtree(tmp_path)
