"""Items that do not fit a model are named in the same words wherever they meet it, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nncf_core.comparison import compare
from nncf_core.dataset import Dataset
from nncf_core.errors import UnsupportedDatasetError
from nncf_core.observing import Observation
from nncf_core.pipeline import run
from nncf_core.verification import verify
from tests.cli.models import MAKERS, rows

pytestmark = pytest.mark.needs("nncf_weight_compression", "nncf_weight_refinement")

PLAIN = {"algorithm": "weight_compression"}
WHOLE = {
    "algorithm": "weight_compression", "mode": "int4_sym", "group_size": 32, "ratio": 0.5,
    "sensitivity_metric": "mean_activation_magnitude",
}  # fmt: skip
PARTS = [{"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 32}, {"algorithm": "gptq"}]

X = rows(1)
SHAPES = {"narrow": (X[:, :7], "float32 [1, 7]"), "flat": (X[0], "float32 [64]")}


def calibrated(model: Path, items: list[Any]) -> None:
    run({"compression": WHOLE}, model, dataset=Dataset(items))


def in_parts(model: Path, items: list[Any]) -> None:
    run({"compression": PARTS}, model, dataset=Dataset(items))


def compared(model: Path, items: list[Any]) -> None:
    compare(model, model, items, runs=0)


def verified(model: Path, items: list[Any]) -> None:
    notes, output = Observation(measures=False, verifies=True), model.with_stem("small")
    run({"compression": PLAIN}, model, output=output, observation=notes)
    verify(model, output, notes, Dataset(items))


def said(make: str, meet: Callable[[Path, list[Any]], None], array: np.ndarray, folder: Path) -> str:
    """What is told of an item behind one that fits."""
    maker, suffix = MAKERS[make]
    name = "input" if make == "torch" else "x"
    model = maker(folder / f"model{suffix}")
    with pytest.raises(UnsupportedDatasetError) as caught:
        meet(model, [{name: X}, {name: array}])
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(model), "the model").replace("[n, 64]", "[?, 64]").replace("'input'", "'x'")


@pytest.mark.parametrize("make", [pytest.param(name, marks=pytest.mark.needs(f"nncf_{name}")) for name in MAKERS])
@pytest.mark.parametrize("meet", [calibrated, in_parts, compared, verified])
@pytest.mark.parametrize("kind", SHAPES)
def test_shapes(make: str, meet: Callable[[Path, list[Any]], None], kind: str, tmp_path: Path) -> None:
    array, given = SHAPES[kind]
    if (make, kind) == ("torch", "flat") and meet is compared:
        pytest.skip("programs of layers take rows without their axis of samples")
    message = said(make, meet, array, tmp_path)
    start = f"Item 1 of the dataset does not fit the model: the input 'x' takes float32 [?, 64], and is given {given}. "
    assert message.startswith(f"{start}Give items that fit, or pass a transform_func"), message
    assert len(message) > len(start) + 100, "why comes last"


@pytest.mark.parametrize("make", [pytest.param(name, marks=pytest.mark.needs(f"nncf_{name}")) for name in MAKERS])
@pytest.mark.parametrize("meet", [calibrated, in_parts, compared, verified])
def test_types(make: str, meet: Callable[[Path, list[Any]], None], tmp_path: Path) -> None:
    if make == "openvino":
        pytest.skip("OpenVINO converts elements itself")
    message = said(make, meet, X.astype(np.int64), tmp_path)
    start = (
        "Item 1 of the dataset does not fit the model: the input 'x' takes float32 [?, 64], and is given int64 [1, 64]"
    )
    assert message.startswith(start), message


@pytest.mark.parametrize("make", [pytest.param(name, marks=pytest.mark.needs(f"nncf_{name}")) for name in MAKERS])
@pytest.mark.parametrize("meet", [calibrated, in_parts, compared, verified])
def test_complex_numbers(make: str, meet: Callable[[Path, list[Any]], None], tmp_path: Path) -> None:
    message = said(make, meet, X.astype(np.complex64), tmp_path)
    start = "Item 1 of the dataset does not fit the model: the input 'x' takes float32 [?, 64], and is given complex64"
    assert message.startswith(f"{start} [1, 64]. "), message
