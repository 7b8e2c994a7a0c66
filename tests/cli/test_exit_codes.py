"""Every command ends with the codes that the help tells of."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nncf_core.cli import main
from tests.cli.models import onnx_model, rows, weights

pytest.importorskip("nncf_weight_compression")


def nncf(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What commands are called on."""
    monkeypatch.chdir(tmp_path)
    onnx_model(tmp_path / "model.onnx")
    arrays = weights()
    arrays[0][0, 0] = np.nan
    onnx_model(tmp_path / "nan.onnx", arrays)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    np.savez(tmp_path / "data.npz", x=rows(8))
    config = {"compression": {"algorithm": "weight_compression"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "unknown.json").write_text(json.dumps({"compression": {"algorithm": "no_such_algorithm"}}))
    (tmp_path / "code_metrics.py").write_text(
        "def fails(model, items):\n    raise RuntimeError('boom')\ndef broken():\n    raise RuntimeError('boom')\n"
        "def leaves(model, items):\n    raise SystemExit(0)\n"
    )
    (tmp_path / "code_script.py").write_text("def data():\n    return []\nraise SystemExit(0)\n")
    assert nncf("compress-weights", "model.onnx", "-o", "done.onnx", "-q").exit_code == 0
    lock = json.loads((tmp_path / "done.onnx.lock.json").read_text())
    lock["outputs"] = {"done.onnx": "0" * 64}
    (tmp_path / "other.lock.json").write_text(json.dumps(lock))
    return tmp_path


QUANTIZE = "quantize model.onnx -o small.onnx --dataset data.npz"

DONE = [
    "compress-weights model.onnx -o small.onnx",
    "run config.json model.onnx -o small.onnx",
    QUANTIZE,
    "inspect model.onnx",
    "compare model.onnx model.onnx --runs 0",
    "reproduce done.onnx.lock.json",
    "plugins",
    "new-plugin algorithm my-own-algo",
    "completion bash",
]

FAILED = [
    # NaN cannot be rounded to codes by anything; a metric, bytes and outputs that are not accepted
    f"{QUANTIZE} --max-drop 1 --validation code_metrics:fails",
    f"{QUANTIZE} --max-drop 1 --validation code_metrics:leaves",
    "reproduce other.lock.json",
    "compare model.onnx nan.onnx",
]

WRONG = [
    "",
    "no-such-command",
    "--no-such-option",
    "compress-weights",
    "compress-weights model.onnx",
    "compress-weights model.onnx -o small.onnx --mode int5",
    "compress-weights model.onnx -o small.onnx --ratio much",
    "compress-weights model.onnx -o small.onnx --mode int4_sym --ratio 3",
    "compress-weights model.onnx -o small.onnx --mode codebook --codebook a,b",
    "compress-weights model.onnx -o small.onnx --backend-param weight_format",
    "compress-weights model.onnx -o small.onnx --backend-param no_such=1",
    "compress-weights model.onnx -o small.onnx --dataset-option scale=1",
    "compress-weights model.onnx -o small.onnx --dataset none.npz",
    "compress-weights model.onnx -o missing/small.onnx",
    "compress-weights model.onnx -o model.onnx",
    "compress-weights model.onnx -o .",
    "compress-weights model.onnx -o /",
    "compress-weights none.onnx -o small.onnx",
    "compress-weights broken.onnx -o small.onnx",
    "run config.json",
    "run config.json model.onnx -o small.onnx --report config.json",
    "run none.json model.onnx -o small.onnx",
    "run unknown.json model.onnx -o small.onnx",
    "run model.onnx model.onnx -o small.onnx",
    "quantize model.onnx -o small.onnx",
    "quantize model.onnx -o small.onnx --dataset code_script:data",
    f"{QUANTIZE} --max-drop 1 --validation code_script:data",
    f"{QUANTIZE} --max-drop 1",
    f"{QUANTIZE} --drop-type relative",
    f"{QUANTIZE} --validation-dataset data.npz",
    f"{QUANTIZE} --intermediate-models models",
    "compress-weights model.onnx -o small.onnx --work-dir work",
    "run config.json model.onnx -o small.onnx --work-dir work",
    f"{QUANTIZE} --max-drop 1 --validation code_metrics",
    f"{QUANTIZE} --max-drop 1 --validation code_metrics:none",
    f"{QUANTIZE} --max-drop 1 --validation no_such_module:none",
    "inspect",
    "inspect none.onnx",
    "inspect broken.onnx",
    "inspect config.json",
    "compare model.onnx",
    "compare model.onnx none.onnx",
    "compare model.onnx model.onnx --items 0",
    "compare model.onnx model.onnx --dataset config.json",
    "reproduce none.lock.json",
    "reproduce config.json",
    "reproduce done.onnx.lock.json -o model.onnx",
    "reproduce done.onnx.lock.json -o again.xml",
    "reproduce done.onnx.lock.json -o .",
    "reproduce done.onnx.lock.json --dataset data.npz",
    "reproduce done.onnx.lock.json -o missing/again.onnx",
    "plugins --no-such-option",
    "new-plugin algorithm",
    "new-plugin algorithm My_Algo",
    "new-plugin model my-algo",
    "completion tcsh",
]


@pytest.mark.needs("onnx", "nncf_onnx", "nncf_post_training_quantization", "nncf_accuracy_control")
@pytest.mark.parametrize(
    ("command", "code"),
    [*((command, 0) for command in DONE), *((command, 1) for command in FAILED), *((command, 2) for command in WRONG)],
)
def test_every_command(folder: Path, command: str, code: int) -> None:
    before = {path.name for path in folder.iterdir()}
    result = nncf(*command.split())
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if code:
        assert result.stderr
        assert "Traceback" not in result.stderr
        left = {path.name for path in folder.iterdir()} - before - {"__pycache__"}
        assert left <= {"small.best.onnx"}


SAYS = {
    "compress-weights model.onnx": ["Missing option '-o'", "--dry-run"],
    "compress-weights model.onnx -o small.onnx --dataset-option scale=1": ["--dataset-option needs --dataset"],
    "compress-weights model.onnx -o small.onnx --codebook 1,2": ["--codebook needs --mode codebook", "int8_asym"],
    "compress-weights model.onnx -o small.onnx --mode int8_sym --gptq --dataset data.npz": [
        "--gptq needs a format of at most 4 bits, and --mode is int8_sym", "leave out --gptq.",
    ],
    "compress-weights model.onnx -o small.onnx --mode fp8_e4m3 --scale-estimation --quality max": [
        "--scale-estimation and --quality max need a format of at most 4 bits", "leave out these.",
    ],
    "compress-weights model.onnx -o small.onnx --lora-correction --dataset data.npz": ["--mode is int8_asym"],
    "compress-weights model.onnx -o small.onnx --mode int4_sym --sensitivity-metric max_activation_variance": [
        "--sensitivity-metric max_activation_variance needs --ratio",
    ],
    "compress-weights model.onnx -o small.onnx --mode nf4 --ratio .5 --sensitivity-metric hessian_input_activation": [
        "--sensitivity-metric hessian_input_activation needs calibration data; give --dataset, or set",
        "to weight_quantization_error, which needs none.",
    ],
    "compress-weights model.onnx -o small.onnx --mode codebook --awq --codebook 3,2,1": [
        "--codebook 3,2,1: the values of the codebook must be finite and strictly increasing.",
    ],
    "compress-weights model.onnx -o small.onnx --sensitivity-metric weight_quantization_error": [
        "leave out --sensitivity-metric",
    ],
    f"{QUANTIZE} --drop-type relative": ["--drop-type needs --validation MODULE:FUNCTION"],
    f"{QUANTIZE} --drop-type absolute": ["--drop-type needs --validation MODULE:FUNCTION"],
    f"{QUANTIZE} --validation-dataset data.npz": ["--validation-dataset needs --validation MODULE:FUNCTION"],
    f"{QUANTIZE} --intermediate-models models": ["--intermediate-models needs --validation MODULE:FUNCTION"],
    "compress-weights model.onnx -o small.onnx --dataset data.npz --work-dir work": [
        "--work-dir needs something to calibrate: --quality best",
    ],
    "run config.json model.onnx -o small.onnx --work-dir work": ["--work-dir needs something to calibrate"],
    "compress-weights model.onnx -o small.onnx --mode int4_sym --gptq --work-dir work": ["--work-dir needs --dataset."],
    "compress-weights model.onnx --mode int4_sym --quality best --dataset data.npz --dry-run --work-dir work": [
        "--work-dir is for runs that write a model",
    ],
    f"{QUANTIZE} --max-drop 1": ["--max-drop", "need --validation MODULE:FUNCTION"],
    "quantize model.onnx -o small.onnx --dataset code_metrics:broken": [
        "The dataset code_metrics:broken", "fails with RuntimeError('boom')", "It is called without arguments",
    ],
    "quantize model.onnx -o small.onnx --dataset code_script:data": [
        "The dataset code_script:data", "ends with SystemExit(0)", 'behind `if __name__ == "__main__":`',
    ],
    "compress-weights model.onnx -o .": ["Cannot write .: it is a folder; give the name of a file."],
    "run config.json model.onnx -o small.onnx --report config.json": ["it would replace the config config.json"],
    "reproduce done.onnx.lock.json -o again.xml": ["Cannot write again.xml", "ends in .onnx"],
}  # fmt: skip


@pytest.mark.needs("onnx", "nncf_onnx", "nncf_post_training_quantization", "nncf_accuracy_control")
@pytest.mark.parametrize("command", SAYS)
def test_what_wrong_commands_are_told(folder: Path, command: str) -> None:
    result = nncf(*command.split())
    assert result.exit_code == 2, result.output
    text = " ".join(result.stderr.split())
    for part in SAYS[command]:
        assert part in text


@pytest.mark.needs("onnx", "nncf_onnx", "nncf_post_training_quantization", "nncf_accuracy_control")
def test_a_metric_that_ends_the_process_leaves_the_best_model(folder: Path) -> None:
    (folder / "late_metrics.py").write_text(
        "calls = []\ndef late(model, items):\n    calls.append(1)\n"
        "    if len(calls) > 2:\n        raise SystemExit(3)\n    return 1.0 / len(calls)\n"
    )
    result = nncf(*f"{QUANTIZE} --max-drop 0.1 --validation late_metrics:late".split())
    assert result.exit_code == 1, result.output
    assert "it would have ended the command with SystemExit(3)" in " ".join(result.stderr.split())
    assert (folder / "small.best.onnx").is_file()


@pytest.mark.needs("onnx", "nncf_onnx")
def test_no_other_code_ends_the_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("nncf_core.pipeline.run", run)
    result = nncf("compress-weights", "model.onnx", "-o", "small.onnx")
    assert result.exit_code == 1
    assert f"{__file__}, line {run.__code__.co_firstlineno + 1}, in run: SystemExit(0)" in result.stderr
    assert not (folder / "small.onnx").exists()


def test_every_command_is_here() -> None:
    for table in (DONE, WRONG):
        assert {command.split()[0] for command in table if command} >= set(main.commands)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_the_help_tells(name: str) -> None:
    text = nncf(name, "--help").stdout
    for line in ("0    done", "1    the work failed", "2    the command, its arguments", "130  interrupted"):
        assert line in text


PACKAGES = {
    "images": ("PIL.Image", "images", (), "Reading images needs Pillow: pip install Pillow"),
    "table": ("pyarrow.parquet", "data.parquet", (), "Reading Parquet files needs pyarrow: pip install pyarrow"),
    "text": (
        "tokenizers", "words.txt", ("--dataset-option", "tokenizer=t.json"),
        "Reading text needs tokenizers: pip install tokenizers",
    ),
}  # fmt: skip


@pytest.mark.needs("onnx", "nncf_onnx")
@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("command", ["compress-weights model.onnx -o small.onnx", "compare model.onnx model.onnx"])
def test_packages_that_are_not_installed(
    folder: Path, name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, data, options, message = PACKAGES[name]
    monkeypatch.setitem(sys.modules, module, None)  # what import takes for missing
    (folder / "images").mkdir()
    for file in ("images/a.png", "data.parquet", "words.txt"):
        (folder / file).touch()
    result = nncf(*command.split(), "--dataset", data, *options)
    assert (result.exit_code, result.stderr) == (2, f"nncf: error: {message}\n")
    assert not (folder / "small.onnx").exists()


@pytest.mark.needs("onnx", "nncf_onnx")
def test_a_report_without_plots(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was done is told all the same; the model may have taken hours."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    result = nncf("compress-weights", "model.onnx", "-o", "small.onnx", "--report", "report.html", "-q")
    assert result.exit_code == 0
    assert "The report has no plots: install matplotlib, pip install nncf-core[plots]." in caplog.text
    assert "int8_asym" in (folder / "report.html").read_text()


@pytest.mark.parametrize("command", ["compress-weights model.onnx -o small.onnx", "compare model.onnx model.onnx"])
def test_interrupted(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("nncf_core.pipeline.run", "nncf_core.comparison.compare"):
        monkeypatch.setattr(name, interrupt)
    before = {path.name for path in folder.iterdir()}
    result = nncf(*command.split())
    assert result.exit_code == 130
    assert "interrupted; no file was changed" in result.stderr
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "kind", sorted({kind.__name__ for kind in __import__("nncf_core.errors").errors.NNCFError.__subclasses__()})
)
def test_every_kind_of_error_has_a_code(kind: str) -> None:
    from nncf_core import errors
    from nncf_core.cli.main import _exit_code

    found: Callable[..., Exception] = getattr(errors, kind)
    assert _exit_code(found("what")) in (1, 2)
