"""Reports of runs, as files and in a browser."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nncf_core.cli import main
from tests.browser import document_of, loads_nothing
from tests.cli.models import MAKERS, onnx_model, rows, weights

pytest.importorskip("matplotlib")


def nncf(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def cells(document: str, title: str) -> list[list[str]]:
    """The rows of the table below a heading."""
    section = document.split(f"<h2>{title}</h2>")[1].split("<h2>")[0]
    found = re.findall(r"<tr>(.*?)</tr>", section.split("<tbody>")[1])
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in found]


def test_a_page_in_a_browser(tmp_path: Path) -> None:
    name = "/model/decoder/layers.{}/self_attention/query_key_value_of_all_heads/MatMul"
    model = onnx_model(tmp_path / "a <b>.onnx", weights((64,) * 61), name)
    page = tmp_path / "report.html"
    options = ("--mode", "int4_sym", "--group-size", 32, "--report", page)
    result = nncf("compress-weights", model, "-o", tmp_path / "small.onnx", *options)
    assert result.exit_code == 0, result.output
    document = document_of(page, tmp_path)
    assert loads_nothing(document)
    headings = re.findall(r"<h2>(.*?)</h2>", document)
    assert headings == [
        "Formats", "Size by weight", "Error by weight", "Values of the weights that lose most", "Verification",
        "What was done", "Time", "To do it again", "Versions",
    ]  # fmt: skip
    assert "<h1>a &lt;b&gt;.onnx, compressed</h1>" in document
    # sizes, errors, and values of nine weights
    assert len(re.findall(r"<svg[ >]", document)) == 11
    assert "The 40 largest of 60." in document
    done = cells(document, "What was done")
    assert [row[1] for row in done] == [f"w{index}" for index in range(60)]
    assert {row[4] for row in done[:-1]} == {"int4"}
    assert all(15 < float(row[7]) < 30 for row in done[:-1])
    assert [row[0] for row in cells(document, "Time")][0::5] == ["opening", "all"]
    assert [row[:2] for row in cells(document, "Verification")] == [
        ["stored", "yes"],
        ["run", "yes"],
        ["layers", "yes"],
    ]
    assert {"nncf-core", "nncf-onnx", "onnxruntime"} <= {row[0] for row in cells(document, "Versions")}
    assert "click" not in {row[0] for row in cells(document, "Versions")}


@pytest.mark.parametrize("framework", [pytest.param(f, marks=pytest.mark.needs(f, f"nncf_{f}")) for f in MAKERS])
def test_data_have_the_same_content(tmp_path: Path, framework: str) -> None:
    make, suffix = MAKERS[framework]
    model, report = make(tmp_path / f"model{suffix}"), tmp_path / "report.json"
    result = nncf("compress-weights", model, "-o", tmp_path / f"small{suffix}", "--report", report)
    assert result.exit_code == 0, result.output
    data = json.loads(report.read_text())
    assert [entry["format"] for entry in data["entries"]] == ["uint8"] * 3
    for damage, entry, weight in zip(data["damages"], data["entries"], weights(), strict=True):
        assert damage["target"] == entry["target"]
        assert sum(damage["before"]) == sum(damage["after"]) == weight.size
        assert (damage["low"], damage["high"]) == pytest.approx((weight.min(), weight.max()))
        assert damage["snr"] > 40
    assert set(data["seconds"]) == {
        "opening", "statistics for weight_compression", "edits of weight_compression", "saving", "verifying",
    }  # fmt: skip
    assert data["versions"][f"nncf-{framework}"]
    assert data["command"].startswith("nncf run config.json ")


def test_the_config_does_it_again(tmp_path: Path) -> None:
    model, report, config = onnx_model(tmp_path / "model.onnx"), tmp_path / "report.json", tmp_path / "config.json"
    options = ("--mode", "int4_asym", "--group-size", 16, "--all-layers", "--report", report)
    assert nncf("compress-weights", model, "-o", tmp_path / "a.onnx", *options).exit_code == 0
    config.write_text(json.dumps(json.loads(report.read_text())["config"]))
    assert nncf("run", config, model, "-o", tmp_path / "b.onnx").exit_code == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.needs("nncf_post_training_quantization")
def test_ranges_of_activations(tmp_path: Path) -> None:
    model, data = onnx_model(tmp_path / "model.onnx"), tmp_path / "data.npz"
    np.savez(data, x=rows())
    (tmp_path / "config.json").write_text('{"compression": {"algorithm": "post_training_quantization"}}')
    page = tmp_path / "report.html"
    result = nncf(
        "run", tmp_path / "config.json", model, "-o", tmp_path / "small.onnx", "--dataset", data, "--report", page
    )
    assert result.exit_code == 0, result.output
    ranges = cells(page.read_text(), "Ranges of activations")
    assert len(ranges) == 3
    low, high = float(ranges[0][3]), float(ranges[0][4])
    # ranges are means over samples, of one row each
    assert low == pytest.approx(rows().min(axis=1).mean(), rel=0.05)
    assert high == pytest.approx(rows().max(axis=1).mean(), rel=0.05)
    assert f"--dataset {data}" in page.read_text()


def test_what_a_dry_run_would_do(tmp_path: Path) -> None:
    model, report = onnx_model(tmp_path / "model.onnx"), tmp_path / "report.json"
    assert nncf("compress-weights", model, "--dry-run", "--report", report).exit_code == 0
    assert len(json.loads(report.read_text())["damages"]) == 3


@pytest.mark.parametrize(
    ("name", "message"), [("report.pdf", "must end in .html or .json"), ("missing/report.html", "does not exist")]
)
def test_names_of_reports(tmp_path: Path, name: str, message: str) -> None:
    model = onnx_model(tmp_path / "model.onnx")
    result = nncf("compress-weights", model, "-o", tmp_path / "small.onnx", "--report", tmp_path / name)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "small.onnx").exists()
