"""Masks of weights: what modules compute, and what becomes of them elsewhere."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nncf
import nncf.torch
from nncf_core.errors import UnsupportedBackendError, ValidationError
from nncf_core.graph import Graph
from nncf_core.plan import Plan, entry_for
from nncf_core.registry import registry
from nncf_core.transformations import (
    FoldMask,
    InsertMask,
    MaskKind,
    ReplaceConstant,
    Transformation,
)
from nncf_torch.masks import apply_mask
from nncf_torch.noise import logistic, uniform

torch.set_num_threads(1)


class Two(nn.Module):
    """A product and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3)
        self.product = nn.Linear(16, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(torch.relu(self.convolution(x)).flatten(1))


def two() -> Two:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Two()


INPUT = torch.linspace(-1, 1, 3 * 2 * 4 * 4).reshape(3, 2, 4, 4)


def edited(model: nn.Module, *edits: Transformation) -> nn.Module:
    backend = registry().backend_for(model)
    working = backend.builder.open(model, {"example_input": INPUT})
    graph = backend.builder.build(working)
    return backend.builder.export(backend.inserter.apply(working, graph, edits, {}), model)


def graph_of(model: nn.Module) -> Graph:
    return nncf.build_graph(model, example_input=INPUT)


def some(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) > 0.4


def by_hand(mask: np.ndarray, block: tuple[int, int] = (1, 1)) -> torch.Tensor:
    """The output with a weight of the product that was multiplied beforehand."""
    model = two()
    with torch.no_grad():
        model.product.weight *= torch.from_numpy(np.kron(mask, np.ones(block))).float()
        return model(INPUT)


@pytest.mark.parametrize(
    ("shape", "block"), [((6, 16), (1, 1)), ((6, 1), (1, 16)), ((1, 16), (6, 1)), ((3, 4), (2, 4))]
)
def test_elements_rows_columns_and_blocks(shape: tuple[int, int], block: tuple[int, int]) -> None:
    mask = some(shape)
    model = edited(two(), InsertMask("product.weight", mask))
    torch.testing.assert_close(model(INPUT), by_hand(mask, block))
    constant = graph_of(model).constants["product.weight"]
    assert constant.masked
    wanted = two().product.weight.detach().numpy() * np.kron(mask, np.ones(block))
    np.testing.assert_array_equal(constant.read(), wanted.astype(np.float32))


def test_gradients_reach_what_is_kept_alone() -> None:
    mask = some((6, 16))
    model = edited(two(), InsertMask("product.weight", mask))
    model(INPUT).square().sum().backward()
    gradient = model.product._parameters["weight"].grad
    assert gradient is not None
    np.testing.assert_array_equal(gradient.numpy() != 0, mask & (gradient.numpy() != 0))
    assert (gradient.numpy()[mask] != 0).any()


def test_scored_masks_pass_gradients_straight_to_scores() -> None:
    scores = np.random.default_rng(2).normal(size=(6, 16)).astype(np.float32)
    model = edited(two(), InsertMask("product.weight", scores, MaskKind.SCORED))
    torch.testing.assert_close(model(INPUT), by_hand(scores > 0))
    model(INPUT).square().sum().backward()
    # the derivative of the loss by the mask is that by the masked weight, times the weight
    plain = two()
    with torch.no_grad():
        plain.product.weight *= torch.from_numpy(scores > 0)
    plain(INPUT).square().sum().backward()
    wanted = plain.product.weight.grad * two().product.weight
    torch.testing.assert_close(model.product.weight_mask_scores.grad, wanted.detach(), rtol=1e-4, atol=1e-6)


def lowbias32(x: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ (x >> 16)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**40))
def test_noise_is_the_hash_that_it_says(seed: int, step: int) -> None:
    found = uniform((5, 3), seed, torch.tensor(step)).reshape(-1)
    key = lowbias32((seed + step * 0x9E3779B9) % 2**32)
    bits = [lowbias32(key ^ lowbias32(index)) for index in range(15)]
    np.testing.assert_array_equal(found.numpy(), np.array([((b >> 8) + 0.5) / 2**24 for b in bits], np.float32))


def test_noise_is_uniform_and_independent_from_step_to_step() -> None:
    draws = torch.stack([uniform((64, 64), 7, torch.tensor(step)).reshape(-1) for step in range(64)]).double()
    counts = torch.histc(draws, 64, 0, 1) / draws.numel() * 64
    # 4096 in each, give or take 4.5 standard deviations
    assert (counts - 1).abs().max() < 4.5 / 64
    assert abs(float(draws.mean()) - 0.5) < 2e-3
    correlations = torch.corrcoef(draws) - torch.eye(64, dtype=torch.float64)
    # of 2016 pairs of 4096 numbers, five standard deviations
    assert correlations.abs().max() < 5 / 64
    neighbours = torch.corrcoef(torch.stack([draws[:, :-1].reshape(-1), draws[:, 1:].reshape(-1)]))
    assert abs(float(neighbours[0, 1])) < 0.01
    assert abs(float(logistic((64, 64), 7, torch.tensor(1)).mean())) < 0.15


def test_sampled_masks_are_one_as_often_as_they_say_and_those_of_evaluation_do_not_change() -> None:
    scores = np.full((6, 16), -1.0, np.float32)
    model = edited(two(), InsertMask("product.weight", scores, MaskKind.SAMPLED)).train()
    kept, before = 0.0, model.product.weight_mask_step.clone()
    for _ in range(200):
        model(INPUT)
        kept += float((model.product.weight != 0).float().mean()) / 200
    assert abs(kept - float(torch.sigmoid(torch.tensor(-1.0)))) < 0.02
    assert model.product.weight_mask_step == before + 200
    model.eval()
    model(INPUT)
    assert model.product.weight_mask_step == before + 200
    assert not model.product.weight.any()


def test_a_module_that_runs_twice_has_one_mask_in_a_pass() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.layer(x), self.layer(x)])

    model = Again()
    backend = registry().backend_for(model)
    working = backend.builder.open(model, {"example_input": torch.ones(1, 8)})
    mask = InsertMask("layer.weight", np.zeros((8, 8), np.float32), MaskKind.SAMPLED)
    made = backend.inserter.apply(working, backend.builder.build(working), [mask], {}).module.train()
    first, second = made(torch.ones(1, 8))
    assert torch.equal(first, second)
    assert not torch.equal(made(torch.ones(1, 8))[0], first)


def test_shared_weights_have_one_mask() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(5, 8), nn.Linear(8, 5, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.table(x))

    model, mask, tokens = Tied(), some((5, 8)), torch.tensor([[0, 1, 4]])
    backend = registry().backend_for(model)
    working = backend.builder.open(model, {"example_input": tokens})
    graph = backend.builder.build(working)
    made = backend.inserter.apply(working, graph, [InsertMask("table.weight", mask)], {}).module
    wanted = copy.deepcopy(model)
    with torch.no_grad():
        wanted.table.weight *= torch.from_numpy(mask)
    torch.testing.assert_close(made(tokens), wanted(tokens))
    restored = nncf.torch.load_from_config(model, nncf.torch.get_config(made))
    restored.load_state_dict(made.state_dict())
    assert torch.equal(restored(tokens), made(tokens))
    assert restored.table.weight_mask is restored.head.weight_mask


@pytest.mark.parametrize("kind", list(MaskKind))
def test_masks_survive_copies_files_and_configs(kind: MaskKind) -> None:
    values = some((6, 16)) if kind is MaskKind.FIXED else np.random.default_rng(3).normal(size=(6, 16))
    model = edited(two(), InsertMask("product.weight", values.astype(np.float32), kind)).eval()
    wanted = model(INPUT)
    assert torch.equal(copy.deepcopy(model)(INPUT), wanted)
    assert torch.equal(pickle.loads(pickle.dumps(model))(INPUT), wanted)  # noqa: S301 - what was written just now
    restored = nncf.torch.load_from_config(two(), nncf.torch.get_config(model)).eval()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(restored(INPUT), wanted)
    torch.testing.assert_close(torch.compile(model, backend="eager")(INPUT), wanted)
    torch.testing.assert_close(torch.export.export(model, (INPUT,)).module()(INPUT), wanted)
    half = copy.deepcopy(model).double()
    assert half(INPUT.double()).dtype is torch.float64
    if kind is not MaskKind.FIXED:
        assert half.product.weight_mask_scores.dtype is torch.float32


@pytest.mark.parametrize("format_", list(nncf.StripFormat))
def test_strip_folds_masks(format_: nncf.StripFormat) -> None:
    mask = some((6, 16))
    model = edited(two(), InsertMask("product.weight", mask))
    stripped = nncf.strip(model, strip_format=format_)
    assert type(stripped.product) is nn.Linear
    assert set(stripped.state_dict()) == set(two().state_dict())
    torch.testing.assert_close(stripped(INPUT), by_hand(mask))
    assert stripped.product.weight.requires_grad
    assert "product.weight_mask" in model.state_dict()


def test_masks_come_before_quantizers() -> None:
    mask = some((6, 16))
    calibrated = nncf.Dataset([INPUT])
    model = edited(two(), InsertMask("product.weight", mask))
    quantized = nncf.quantize(model, calibrated)
    weight = graph_of(quantized).constants["product.weight"]
    assert weight.masked
    assert weight.compressed_format == "int8"
    codes = weight.compressed().codes.view(np.int8).reshape(6, 16)
    assert (codes[~mask] == 0).all()
    assert (codes[mask] != 0).mean() > 0.9
    # outputs are those of the zeros in the weight itself
    plain = two()
    with torch.no_grad():
        plain.product.weight *= torch.from_numpy(mask)
    torch.testing.assert_close(quantized(INPUT), nncf.quantize(plain, calibrated)(INPUT))
    # and gradients do not reach what is masked
    quantized.train()(INPUT).sum().backward()
    gradient = quantized.product._parameters["weight"].grad
    assert not gradient.numpy()[~mask].any()
    for format_ in (nncf.StripFormat.NATIVE, nncf.StripFormat.DQ, nncf.StripFormat.IN_PLACE):
        stripped = nncf.strip(quantized.eval(), strip_format=format_)
        torch.testing.assert_close(stripped(INPUT), quantized(INPUT))
        assert not graph_of(stripped).constants["product.weight"].masked


def test_masked_weights_are_trained_in_few_bits() -> None:
    mask = some((6, 16))
    model = edited(two(), InsertMask("product.weight", mask))
    trained = nncf.compress_weights(
        model,
        mode=nncf.CompressWeightsMode.INT4_SYM,
        group_size=8,
        all_layers=True,
        compression_format=nncf.CompressionFormat.FQ,
        dataset=nncf.Dataset([INPUT]),
    )
    assert not trained.product.weight[~torch.from_numpy(mask)].any()
    stored = nncf.strip(trained, strip_format=nncf.StripFormat.DQ)
    torch.testing.assert_close(stored(INPUT), trained(INPUT))


def test_new_values_stay_under_the_mask() -> None:
    mask = some((6, 16))
    model = edited(two(), InsertMask("product.weight", mask), ReplaceConstant("product.weight", np.ones((6, 16))))
    np.testing.assert_array_equal(model.product.weight.detach().numpy(), mask.astype(np.float32))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([InsertMask("product.weight", np.ones((4, 16)))], "do not divide"),
        ([InsertMask("product.weight", np.ones((6, 16)))] * 2, "at most one"),
        ([FoldMask("product.weight")], "has no mask"),
    ],
)
def test_what_is_no_mask_is_refused(edits: list[Transformation], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        edited(two(), *edits)


def test_programs_are_not_trained() -> None:
    program = torch.export.export(two(), (INPUT,))
    backend = registry().backend_for(program)
    working = backend.builder.open(program, {})
    with pytest.raises(UnsupportedBackendError, match="cannot have a mask"):
        backend.inserter.apply(
            working, backend.builder.build(working), [InsertMask("product.weight", np.ones((6, 16)))], {}
        )


def test_plans_hold_masks(tmp_path: Any) -> None:
    edits = (InsertMask("product.weight", some((3, 4)), MaskKind.FIXED, "because"), FoldMask("product.weight"))
    graph = graph_of(two())
    plan = Plan("torch", tuple(entry_for("a", edit, graph) for edit in edits), (("a", edits),))
    plan.save(tmp_path)
    loaded = Plan.load(tmp_path)
    assert [entry.action for entry in loaded.entries] == ["mask", "fold_mask"]
    first, second = loaded.steps[0][1]
    assert isinstance(first, InsertMask)
    np.testing.assert_array_equal(first.mask, edits[0].mask)
    assert (first.constant, first.kind, first.reason) == ("product.weight", MaskKind.FIXED, "because")
    assert second == edits[1]


def test_blocks_are_those_of_kron() -> None:
    weight, mask = torch.arange(24.0).reshape(4, 6), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = apply_mask(weight, mask, ((2, 2, 2, 3), (2, 1, 2, 1)))
    torch.testing.assert_close(found, weight * torch.kron(mask, torch.ones(2, 3)))
