"""Rounding of trained weights, and its gradients, against numpy in float64 and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nncf_torch import straight_through
from nncf_torch.straight_through import Rounded, rounded_to_half, scale_of, zero_point_of
from tests.backends.torch.models import normal

GROUP = 4
RANGES = {"uint4": (0, 15, 4), "int4": (-8, 7, 4), "int2": (-2, 1, 2), "uint8": (0, 255, 8), "int8": (-128, 127, 8)}


def parameters(kind, seed, adapted, outliers=0.6):
    """A weight [6, 8] in groups of 4 with ranges that cut some of it off, and an adapter of rank 3."""
    lo, _, bits = RANGES[kind]
    weight = normal(6, 8, seed=seed)
    groups = weight.reshape(6, 2, GROUP)
    given = {"weight": weight}
    if lo == 0:
        low = groups.amin(-1, keepdim=True).clamp(max=-0.2) * outliers
        high = groups.amax(-1, keepdim=True).clamp(min=0.2) * outliers
        given["half_range"] = (high - low) / (2**bits - 1) * 2 ** (bits - 1)
        given["low"] = low
    else:
        # of either sign, as signed scales have
        signs = torch.tensor([1.0, -1.0]).reshape(1, 2, 1)
        given["half_range"] = groups.abs().amax(-1, keepdim=True) * outliers * signs
    if adapted:
        given |= {"b": normal(6, 3, seed=seed + 1) * 0.1, "a": normal(3, 8, seed=seed + 2) * 0.1}
    return given


def value(kind, given, half=False):
    lo, hi, bits = RANGES[kind]
    low = given.get("low")
    scale = scale_of(given["half_range"], bits, signed=low is None, half=half)
    zero_point = None if low is None else zero_point_of(low, scale, bits)
    grouped = (6, 2, GROUP)
    return Rounded(given["weight"], scale, zero_point, given.get("b"), given.get("a"), lo, hi, grouped).value()


class Surrogate:
    """The function whose gradients those of straight-through rounding are.

    All that rounding adds, and whether something is clipped, stays as it is at one point. In numpy's float64; with
    the float16 rounding of scales, too.
    """

    def __init__(self, kind, given, half):
        self.kind, self.half = kind, half
        self.frozen = {}
        self.value({name: tensor.double().numpy() for name, tensor in given.items()})

    def _rounded(self, name, exact, rounding):
        if name not in self.frozen:
            self.frozen[name] = rounding(exact) - exact
        return exact + self.frozen[name]

    def value(self, p):
        lo, hi, bits = RANGES[self.kind]
        scale = p["half_range"] / 2 ** (bits - 1)
        if self.half:
            scale = self._rounded("scale", scale, lambda s: s.astype(np.float16).astype(np.float64))
        zero_point = np.zeros(scale.shape)
        if "low" in p:
            zero_point = self._rounded("zero_point", -p["low"] / scale, lambda z: np.clip(np.rint(z), 0, hi))
        total = p["weight"] + (p["b"] @ p["a"] if "b" in p else 0)
        ratio = total.reshape(6, 2, GROUP) / scale + zero_point
        # clipped, then rounded: 7.4 with codes up to 7 is clipped
        self.frozen.setdefault("inside", (ratio > lo) & (ratio < hi))
        self.frozen.setdefault("ends", np.where(ratio <= lo, lo, hi))
        codes = np.where(self.frozen["inside"], self._rounded("codes", ratio, np.rint), self.frozen["ends"])
        return ((codes - zero_point) * scale).reshape(6, 8)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("kind", RANGES)
def test_gradients_are_finite_differences_of_the_surrogate(kind, adapted, half):
    given = parameters(kind, 3, adapted)
    surrogate, upstream = Surrogate(kind, given, half), normal(6, 8, seed=9)
    for tensor in given.values():
        tensor.requires_grad_()
    made = value(kind, given, half)
    point = {name: tensor.detach().double().numpy() for name, tensor in given.items()}
    np.testing.assert_allclose(made.detach().numpy(), surrogate.value(point), rtol=1e-5, atol=1e-6)
    assert 0 < surrogate.frozen["inside"].mean() < 1
    made.backward(upstream)
    for name, tensor in given.items():
        wanted = np.zeros(tensor.shape)
        for index in np.ndindex(*tensor.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = {key: array.copy() for key, array in point.items()}
                moved[name][index] += step
                sides.append((surrogate.value(moved) * upstream.double().numpy()).sum())
            wanted[index] = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(tensor.grad.numpy(), wanted, rtol=2e-3, atol=2e-3, err_msg=name)


def test_what_is_clipped_shows_before_rounding():
    weight = torch.tensor([[7.4, -7.4, 3.7, 1.48]], requires_grad=True)
    scale = torch.ones(1, 1, 1, requires_grad=True)
    made = Rounded(weight, scale, None, None, None, -8, 7, (1, 1, 4)).value()
    assert made.tolist() == [[7, -7, 4, 1]]
    made.sum().backward()
    assert weight.grad.tolist() == [[0, 1, 1, 1]]
    assert scale.grad.item() == pytest.approx(7 + 0.4 + 0.3 - 0.48, abs=1e-5)


@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(list(RANGES)),
    adapted=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
)
@settings(max_examples=60, deadline=None)
def test_values_are_the_same_with_and_without_gradients(seed, kind, adapted, dtype):
    given = parameters(kind, seed, adapted)
    given["weight"] = given["weight"].to(dtype)
    plain = value(kind, given, half=True)
    trained = value(kind, {name: tensor.clone().requires_grad_() for name, tensor in given.items()}, half=True)
    assert trained.requires_grad
    assert not plain.requires_grad
    assert torch.equal(trained, plain)
    # an independent twin, one number after the other
    lo, hi, bits = RANGES[kind]
    total = given["weight"].float() + (given["b"] @ given["a"] if adapted else 0)
    for (row, column), number in np.ndenumerate(total.numpy()):
        at = (row, column // GROUP, 0)
        scale = np.float32(np.float16(np.float32(given["half_range"][at]) / np.float32(2 ** (bits - 1))))
        zero_point = np.float32(0)
        if lo == 0:
            zero_point = np.clip(np.rint(-np.float32(given["low"][at]) / scale), 0, np.float32(hi))
        code = np.clip(np.rint(number / scale + zero_point), lo, hi)
        assert plain[row, column] == (code - zero_point) * scale


def test_scales_are_never_zero_and_keep_their_sign():
    ranges = torch.tensor([0.0, -0.0, 1e-12, -1e-12, -8.0])
    eps = 2.0**-23
    assert scale_of(ranges, 4, signed=True, half=True).tolist() == [eps, eps, eps, -eps, -1.0]
    assert scale_of(ranges, 4, signed=False, half=False).tolist() == [eps, eps, eps, eps, 1.0]


def test_float16_is_rounded_to_without_casts_where_compilers_drop_them(monkeypatch):
    patterns = torch.randint(-(2**31), 2**31, (200_000,), generator=torch.Generator().manual_seed(0)).to(torch.int32)
    ties = (torch.arange(0, 2**16, dtype=torch.int32) << 13) | 0x3800_1000
    numbers = torch.cat([patterns, ties, torch.tensor([0, -(2**31)], dtype=torch.int32)]).view(torch.float32)
    numbers = torch.cat([numbers[numbers.isfinite()], torch.linspace(-1e-4, 1e-4, 10_001), torch.tensor([65519.0])])
    wanted = numbers.clamp(-65504, 65504).to(torch.float16).to(torch.float32)
    assert torch.equal(rounded_to_half(numbers), wanted)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(rounded_to_half(numbers), wanted)


def test_zero_points_stay_codes():
    scale = torch.ones(4)
    low = torch.tensor([-3.4, 5.0, -99.0, -7.5], requires_grad=True)
    found = zero_point_of(low, scale, 4)
    assert found.tolist() == [3.0, 0.0, 15.0, 8.0]
    # of gradients of zero points, those that would move them further away are left out
    for upstream, wanted in ((1.0, [-1.0, 0.0, -1.0, -1.0]), (-1.0, [1.0, 1.0, 0.0, 1.0])):
        (gradient,) = torch.autograd.grad(found, low, torch.full((4,), upstream), retain_graph=True)
        assert gradient.tolist() == wanted


def test_nothing_of_a_weights_size_is_kept_for_the_backward_pass():
    given = {name: tensor.requires_grad_() for name, tensor in parameters("int4", 0, True).items()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        value("int4", given)
    large = [tensor for tensor in kept if tensor.numel() >= 48]
    assert large
    assert all(tensor is given["weight"] for tensor in large)


@pytest.mark.parametrize("kind", ["uint4", "int4"])
@pytest.mark.parametrize("piece", [8, 16, 24])
def test_pieces_are_as_the_whole(kind, piece, monkeypatch):
    def made():
        given = {name: tensor.requires_grad_() for name, tensor in parameters(kind, 0, True).items()}
        result = value(kind, given)
        result.backward(normal(6, 8, seed=9))
        return [result, *(tensor.grad for tensor in given.values())]

    whole = made()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(straight_through, "_PIECE", piece)
    for found, wanted in zip(made(), whole, strict=True):
        assert torch.equal(found, wanted)


def test_autocast_does_not_make_adapters_coarser():
    given = {name: tensor.requires_grad_() for name, tensor in parameters("int8", 0, True).items()}
    plain = value("int8", given)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(value("int8", given), plain)
