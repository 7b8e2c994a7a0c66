"""Items of a dataset that a PyTorch model does not take."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nncf

pytest.importorskip("nncf_post_training_quantization")


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))))


GOOD = torch.ones(1, 3, 8, 8)


@pytest.mark.parametrize("program", [False, True])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (None, "Item 1 of the dataset is None; give a tensor"),
        ("text", "Item 1 of the dataset is a str; give a tensor"),
        (GOOD[:0], "Item 1 of the dataset holds no sample: its shapes are (0, 3, 8, 8)."),
        (GOOD[:, :2], "the input 'x' takes float32 [N, 3, 8, 8], and is given float32 [1, 2, 8, 8]."),
        (GOOD.double(), "the input 'x' takes float32 [N, 3, 8, 8], and is given float64 [1, 3, 8, 8]."),
        ({"y": GOOD}, "it takes 'x' float32 [N, 3, 8, 8], and is given 'y' float32 [1, 3, 8, 8]."),
    ],
)
def test_the_message_says_what_was_given_and_what_fits(bad: Any, said: str, program: bool) -> None:
    module = Network().eval()
    model = torch.export.export(module, (GOOD,)) if program else module
    said = said.replace("N", "1" if program else "?") if bad is not None else said
    with pytest.raises(nncf.UnsupportedDatasetError, match=re.escape(said)) as raised:
        nncf.quantize(model, nncf.Dataset([GOOD, bad]))
    assert "\n" not in str(raised.value)
    assert "Item 1" in str(raised.value)


LINEAR = nn.Linear(8, 8).eval()
ROWS = torch.ones(4, 8)
COMPRESS: dict[str, Any] = {
    "mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": 4, "scale_estimation": True, "all_layers": True,
}  # fmt: skip


def compressed(model: Any, dataset: nncf.Dataset) -> Any:
    return nncf.compress_weights(model, dataset=dataset, **COMPRESS)


FORMS = {
    "tensor": lambda item: item,
    "array": lambda item: item.numpy(),
    "tuple": lambda item: (item,),
    "dict": lambda item: {"input": item},
}


@pytest.mark.parametrize("how", [nncf.quantize, compressed])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("items", "index", "given"),
    [
        ([torch.ones(4, 7)] * 2, 0, "float32 [4, 7]"),
        ([torch.ones(4, 7), ROWS], 0, "float32 [4, 7]"),
        ([ROWS, torch.ones(4, 7)], 1, "float32 [4, 7]"),
        ([ROWS, torch.ones(4, 1, 8)], 1, "float32 [4, 1, 8]"),
        ([torch.ones(8)] * 2, 0, "float32 [8]"),
        ([ROWS.long()] * 2, 0, "int64 [4, 8]"),
    ],
)
def test_items_of_programs_are_compared_with_their_inputs(
    items: list[torch.Tensor], index: int, given: str, form: str, how: Any
) -> None:
    program = torch.export.export(LINEAR, (ROWS,))
    said = f"Item {index} of the dataset does not fit the model: the input 'input' takes float32 [4, 8], and is given "
    with pytest.raises(nncf.UnsupportedDatasetError, match=re.escape(f"{said}{given}.")):
        how(program, nncf.Dataset([FORMS[form](item) for item in items]))


def test_programs_take_any_number_of_samples_that_their_operators_take() -> None:
    nncf.quantize(torch.export.export(LINEAR, (ROWS,)), nncf.Dataset([ROWS[:1], ROWS, torch.ones(9, 8)]))
    free = torch.export.export(LINEAR, (torch.ones(4, 5, 8),), dynamic_shapes=({1: torch.export.Dim("n")},))
    nncf.quantize(free, nncf.Dataset([torch.ones(4, 3, 8), torch.ones(4, 7, 8)]))
    with pytest.raises(
        nncf.UnsupportedDatasetError, match=re.escape("takes float32 [4, ?, 8], and is given float32 [4, 3, 7]")
    ):
        nncf.quantize(free, nncf.Dataset([torch.ones(4, 3, 7)]))


TEXT, OBJECTS = np.array([["a"] * 8]), np.array([[None] * 8])
NO_VALUES, WITH_NAN = torch.ones(4, 8, device="meta"), torch.full((4, 8), torch.nan)


def controlled(model: Any, dataset: nncf.Dataset) -> Any:
    return nncf.quantize_with_accuracy_control(model, dataset, dataset, lambda *_: 1.0)


@pytest.mark.parametrize("how", [nncf.quantize, compressed, controlled])
@pytest.mark.parametrize("program", [False, True])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (TEXT, "of the dataset is an array of text, of which PyTorch makes no tensor; give tensors or arrays"),
        ({"input": TEXT}, "of the dataset holds in 'input' an array of text, of which PyTorch makes no tensor; give"),
        (OBJECTS, "of the dataset is an array of object, of which PyTorch makes no tensor; give tensors or arrays"),
        (NO_VALUES, "of the dataset is a tensor on the meta device, which has no values; give tensors or arrays"),
        (None, "of the dataset is None; give a tensor"),
        (WITH_NAN, "of the dataset holds NaN in the input 'input'; correct it, or leave the item out."),
    ],
)
def test_items_that_no_model_takes_are_named(bad: Any, said: str, before: int, program: bool, how: Any) -> None:
    if how is controlled:
        pytest.importorskip("nncf_accuracy_control")
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()
    model = torch.export.export(module, (ROWS,)) if program else module
    for behind in ([], [ROWS]):
        with pytest.raises(nncf.NNCFError, match=f"^{re.escape(f'Item {before} {said}')}"):
            how(model, nncf.Dataset([ROWS] * before + [bad, *behind]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_nan_of_16_bits_is_named(dtype: torch.dtype) -> None:
    with pytest.raises(nncf.ValidationError, match=r"^Item 1 of the dataset holds NaN in the input 'input';"):
        nncf.quantize(nn.Linear(8, 8).to(dtype), nncf.Dataset([ROWS.to(dtype), WITH_NAN.to(dtype)]))
