"""Items of a dataset that a PyTorch model does not take."""

from __future__ import annotations

import re
from typing import Any

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
