"""Weights half-way between two integers: what runs is what the codes stand for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import nncf
from nncf_core.cli import main
from nncf_core.numerics.quantizer import Quantizer, asymmetric, symmetric
from nncf_torch import graph_editing
from nncf_torch.fake_quantize import rounded_to
from nncf_torch.tensors import array_of
from nncf_torch.ties import without_ties

WIDTH = 32


def torn_weights() -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 weights that x / scale and x * (1 / scale) round to different integers, and the scale of each row.

    The last element of a row but one is 127 scales, so that the row's scale is found from it; beside each there is a
    zero, so that no sums of neighbours ask for another.
    """
    random = np.random.default_rng(0)
    rows, scales = [], []
    while len(rows) < 8:
        scale = np.float32(random.uniform(0.001, 0.01))
        top = np.float32(scale * np.float32(127))
        if top / np.float32(127) != scale:
            continue
        near = ((np.arange(-126, 127) + 0.5) * scale).astype(np.float32)
        near = np.concatenate([near, np.nextafter(near, np.float32(1)), np.nextafter(near, np.float32(-1))])
        torn = near[np.rint(near / scale) != np.rint(near * (np.float32(1) / scale))]
        if len(torn) >= 2:
            row = np.zeros(WIDTH)
            row[::2] = [*np.resize(torn, WIDTH // 2 - 1), top]
            rows.append(row)
            scales.append(scale)
    return torch.from_numpy(np.stack(rows).astype(np.float32)), torch.from_numpy(np.stack(scales))


def layer() -> nn.Linear:
    weight, _ = torn_weights()
    made = nn.Linear(WIDTH, len(weight), bias=False).eval()
    made.weight.data = weight
    return made


def by_division() -> torch.Tensor:
    weight, scale = torn_weights()
    return torch.round(weight / scale[:, None]) * scale[:, None]


@pytest.mark.parametrize("exported", [True, False])
def test_models_run_with_what_their_codes_stand_for(exported: bool) -> None:
    given, x = layer(), torch.randn(8, WIDTH)
    before = given.weight.detach().clone()
    model = torch.export.export(given, (x,)) if exported else given
    small = nncf.quantize(model, nncf.Dataset([x]))
    small = small.module() if exported else small
    scale = next(value for name, value in small.state_dict().items() if name.endswith("weight_scale"))
    assert torch.equal(scale.detach(), torn_weights()[1]), "the test is about these scales"
    weight = small.state_dict()["weight"]
    points = torch.zeros(len(scale), dtype=torch.int32)
    assert torch.equal(torch.fake_quantize_per_channel_affine(weight, scale, points, 0, -128, 127), by_division())
    # by a few units in the last place, and those of the given model not at all
    torch.testing.assert_close(weight, before, rtol=2e-6, atol=0)
    assert torch.equal(given.weight, before)


def quantized(folder: Path) -> Result:
    """What the command says of the layer."""
    model, data, output = (folder / name for name in ("m.pt2", "x.npy", "o.pt2"))
    torch.export.save(torch.export.export(layer(), (torch.randn(2, WIDTH),)), model)
    np.save(data, np.random.default_rng(0).normal(size=(8, WIDTH)).astype(np.float32))
    return CliRunner().invoke(main, ["quantize", str(model), "--dataset", str(data), "-o", str(output)])


def test_the_command_verifies_them(tmp_path: Path) -> None:
    result = quantized(tmp_path)
    assert result.exit_code == 0, result.output
    assert "layers: yes, 1 layers" in result.stdout


def test_the_command_notices_one_wrong_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(weight: torch.Tensor, quantizer: Quantizer) -> torch.Tensor:
        settled = without_ties(weight, quantizer)
        assert settled is not None
        settled[3, 4] += 2 * float(quantizer.scale[3])
        return settled

    monkeypatch.setattr(graph_editing, "without_ties", wrong)
    result = quantized(tmp_path)
    assert result.exit_code == 1
    assert "the constant 'weight' was written with other codes" in result.stderr


@pytest.mark.parametrize("make", [symmetric, asymmetric])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_only_elements_that_round_to_others_move(make: type[Quantizer], axis: int | None, dtype: torch.dtype) -> None:
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 50, 3)).astype(np.float32))
    over = None if axis is None else tuple(index for index in range(3) if index != axis)
    quantizer = make(weight.numpy().min(over), weight.numpy().max(over), axis=axis)
    scale, zero = (part.reshape([-1, 1, 1] if axis == 0 else [-1, 1] if axis == 1 else []) for part in (
        quantizer.scale, quantizer.zero_point.astype(np.float32)))  # fmt: skip
    steps = np.rint(weight.numpy() / scale)
    # each within a few float32 of the middle between two integers
    x = torch.from_numpy(((steps + 0.5) * scale).astype(np.float32)).to(dtype)
    wide = x.to(torch.float32).numpy()
    codes = np.clip(np.rint(wide / scale) + zero, quantizer.lo, quantizer.hi)
    inverse = np.clip(np.rint(wide * (np.float32(1) / scale)) + zero, quantizer.lo, quantizer.hi)
    assert (codes != inverse).any() or dtype is torch.float16
    found = without_ties(x, quantizer)
    moved = x if found is None else found
    assert np.array_equal((moved != x).numpy(), codes != inverse)
    parts = (torch.from_numpy(np.atleast_1d(part)) for part in (quantizer.scale, quantizer.zero_point))
    rounded = rounded_to(moved.to(torch.float32), *parts, quantizer.lo, quantizer.hi, axis)
    np.testing.assert_array_equal(np.rint(rounded.numpy() / scale) + zero, codes)
    assert np.array_equal(quantizer.encode(array_of(moved.to(torch.float32))), codes)


def test_other_weights_stay_in_their_memory() -> None:
    weight = torch.linspace(-1, 1, 255).reshape(5, 51) * 0.99
    assert without_ties(weight, Quantizer(np.float32(1 / 128), np.zeros(()), -128, 127)) is None
