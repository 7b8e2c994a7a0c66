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
from tests.cli.models import MAKERS, onnx_model, openvino_model, rows

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


def said(
    make: str,
    meet: Callable[[Path, list[Any]], None],
    array: np.ndarray,
    folder: Path,
    maker: Callable[[Path], Path] | None = None,
    fits: np.ndarray = X,
) -> str:
    """What is told of an item behind one that fits."""
    usual, suffix = MAKERS[make]
    name = "input" if make == "torch" else "x"
    model = (maker or usual)(folder / f"model{suffix}")
    with pytest.raises(UnsupportedDatasetError) as caught:
        meet(model, [{name: fits}, {name: array}])
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


def onnx_of_integers(path: Path) -> Path:
    import onnx

    model = onnx.load(onnx_model(path))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.graph.node[0].input[0] = "numbers"
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["numbers"], "cast", to=onnx.TensorProto.FLOAT))
    onnx.save(model, path)
    return path


def openvino_of_integers(path: Path) -> Path:
    import openvino

    steps = openvino.preprocess.PrePostProcessor(openvino.Core().read_model(openvino_model(path.with_stem("floats"))))
    steps.input().tensor().set_element_type(openvino.Type.i64)
    openvino.save_model(steps.build(), path, compress_to_fp16=False)
    return path


def torch_of_integers(path: Path) -> Path:
    import torch

    class Numbers(torch.nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input.float()

    module = torch.nn.Sequential(Numbers(), torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 16)).eval()
    sizes = {"input": {0: torch.export.Dim("n")}}
    example = torch.ones(3, 64, dtype=torch.int64)
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=sizes), path)
    return path


OF_INTEGERS = {"onnx": onnx_of_integers, "openvino": openvino_of_integers, "torch": torch_of_integers}
WHOLE_X = np.arange(64).reshape(1, 64)


@pytest.mark.parametrize("make", [pytest.param(name, marks=pytest.mark.needs(f"nncf_{name}")) for name in MAKERS])
@pytest.mark.parametrize("meet", [calibrated, in_parts, compared, verified])
@pytest.mark.parametrize("number", [0.5, np.inf, 1e30, 2.0**63])
def test_numbers_that_integers_do_not_hold(
    make: str, meet: Callable[[Path, list[Any]], None], number: float, tmp_path: Path
) -> None:
    array = np.where(WHOLE_X == 3, number, WHOLE_X).astype(np.float32)
    message = said(make, meet, array, tmp_path, OF_INTEGERS[make], WHOLE_X)
    start = (
        "Item 1 of the dataset does not fit the model: the input 'x' takes int64 [?, 64], and is given float32 [1, 64]"
    )
    assert message.startswith(f"{start}. "), message


@pytest.mark.needs("nncf_openvino")
def test_integers_that_are_too_large(tmp_path: Path) -> None:
    array = np.where(WHOLE_X == 3, 2**64 - 1, WHOLE_X.astype(np.uint64))
    message = said("openvino", calibrated, array, tmp_path, openvino_of_integers, WHOLE_X)
    assert "int64 holds numbers from -9223372036854775808 to 9223372036854775807, not from 0 to 1844" in message


@pytest.mark.needs("nncf_openvino")
@pytest.mark.parametrize("meet", [calibrated, in_parts, compared, verified])
def test_whole_numbers(meet: Callable[[Path, list[Any]], None], tmp_path: Path) -> None:
    """OpenVINO converts elements itself."""
    meet(openvino_of_integers(tmp_path / "model.xml"), [{"x": WHOLE_X}, {"x": WHOLE_X.astype(np.float32)}])
