"""What is told of files and options that cannot be: what is wrong, where, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("nncf_openvino")

import openvino as ov

import nncf
from nncf_core.errors import NNCFError
from nncf_core.pipeline import run as run_pipeline
from tests.backends.openvino import models
from tests.backends.openvino.models import random

INT8 = {"algorithm": "weight_compression", "mode": "int8_asym"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ov.serialize(models.mlp(random(64, 128), random(32, 64, seed=1)), tmp_path / "model.xml")
    return tmp_path / "model.xml"


def replaced(pattern: str, by: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text, count = re.subn(pattern, by, path.read_text(), count=1)
        assert count == 1
        path.write_text(text)

    return change


def without_weights(path: Path) -> None:
    path.with_suffix(".bin").unlink()


def cut(path: Path) -> None:
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])


def elsewhere(path: Path) -> None:
    folder = path.parent / "other"
    folder.mkdir()
    path.with_suffix(".bin").rename(folder / "model.bin")
    path.with_suffix(".bin").symlink_to(folder / "model.bin")


def half(path: Path) -> None:
    path.write_text(path.read_text()[:300])


CASES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "root": (lambda path: path.write_text("<html/>"), ["root element is 'html'", "openvino.save_model"]),
    "no version": (replaced('version="11"', 'version="some"'), ["its version is 'some'", "not a number"]),
    "old version": (
        replaced('version="11"', 'version="5"'),
        ["IR version 5", "or later is needed", "Convert the model"],
    ),
    "offset": (
        replaced('offset="\\d+"', 'offset="here"'),
        ["offset 'here'", "no number of bytes", "convert the model"],
    ),
    "no weights": (without_weights, ["model.bin", "do not exist", "copy them beside it"]),
    "cut weights": (cut, ["model.bin", "has 100", "truncated or belongs to another model"]),
    "weights elsewhere": (elsewhere, ["outside of the model's folder", "copy both files to one folder"]),
    "half": (half, ["not valid XML"]),
    "empty": (lambda path: path.write_text(""), ["not valid XML"]),
    "unknown operator": (replaced('type="MatMul"', 'type="Nothing"'), ["OpenVINO does not read", "Nothing"]),
}


@pytest.mark.parametrize("name", CASES)
def test_files(name: str, path: Path) -> None:
    change, parts = CASES[name]
    change(path)
    files = set(path.parent.iterdir())
    with pytest.raises(NNCFError) as caught:
        run_pipeline({"compression": INT8}, path, output=path.with_name("small.xml"))
    message = str(caught.value)
    assert [part for part in [str(path.with_suffix("")), *parts] if part not in message] == [], message
    assert set(path.parent.iterdir()) == files


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"nothing": 1}, ["does not know 'nothing'", "it knows"]),
        ({"in_place": "yes"}, ["in_place is 'yes'", "it must be True or False"]),
    ],
)
def test_options(options: dict[str, object], parts: list[str], path: Path) -> None:
    model = ov.Core().read_model(path)
    with pytest.raises(nncf.ValidationError) as caught:
        run_pipeline({"compression": INT8, "backend_params": options}, model)
    assert [part for part in ["backend_params", *parts] if part not in str(caught.value)] == [], str(caught.value)


def test_names_of_files(path: Path) -> None:
    with pytest.raises(NNCFError, match=r"Cannot write .*model\.onnx: .* ends in \.xml"):
        run_pipeline({"compression": INT8}, path, output=path.with_name("model.onnx"))
    with pytest.raises(nncf.InvalidPathError, match="missing"):
        run_pipeline({"compression": INT8}, path, output=path.parent / "missing" / "model.xml")
