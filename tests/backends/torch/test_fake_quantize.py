"""Fake quantization against the core's quantizer, and its gradients against the formulas of LSQ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nncf_core.numerics.quantizer import Quantizer, asymmetric, floating, symmetric
from nncf_torch.fake_quantize import fake_quantize, rounded_to
from nncf_torch.rounded_weights import Rounding, codes_of, tensors_of
from tests.backends.torch.models import normal

CPU = torch.device("cpu")


def applied(x: torch.Tensor, quantizer: Quantizer) -> torch.Tensor:
    return fake_quantize(x, *tensors_of(quantizer, CPU), quantizer.lo, quantizer.hi, quantizer.axis, quantizer.float8)


def off_ties(x: np.ndarray, quantizer: Quantizer) -> np.ndarray:
    """Where multiplying by 1 / scale, as PyTorch does, rounds as dividing by it does."""
    shape = [1] * x.ndim
    if quantizer.axis is not None:
        shape[quantizer.axis] = -1
    ratio = x.astype(np.float64) / quantizer.scale.astype(np.float64).reshape(
        shape if quantizer.axis is not None else ()
    )
    return np.abs(ratio % 1 - 0.5) > 1e-4


@given(
    seed=st.integers(0, 1000),
    axis=st.sampled_from([None, 0, 1, 2]),
    make=st.sampled_from([symmetric, asymmetric]),
    trained=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
)
@settings(max_examples=60, deadline=None)
def test_values_are_those_of_the_quantizer(seed, axis, make, trained, dtype):
    x = normal(3, 4, 5, seed=seed, dtype=dtype)
    wide = x.float().numpy()
    others = None if axis is None else tuple(index for index in range(3) if index != axis)
    quantizer = make(wide.min(axis=others) * 0.8, wide.max(axis=others) * 0.8, axis=axis)
    with torch.set_grad_enabled(trained):
        found = applied(x, quantizer)
    assert found.dtype is dtype
    kept = off_ties(wide, quantizer)
    np.testing.assert_allclose(
        found.detach().float().numpy()[kept],
        torch.from_numpy(quantizer.apply(wide)).to(dtype).float().numpy()[kept],
        rtol=1e-6,
    )


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("make", [symmetric, asymmetric])
def test_gradients_are_those_of_lsq(make, axis):
    x, out = normal(6, 3), normal(6, 3, seed=1)
    low, high = (x.amin(0), x.amax(0)) if axis == 1 else (x.min(), x.max())
    quantizer = make(0.6 * low.numpy(), 0.6 * high.numpy(), axis=axis)
    scale, zero_point = tensors_of(quantizer, CPU)
    x.requires_grad_()
    (fake_quantize(x, scale, zero_point, quantizer.lo, quantizer.hi, axis) * out).sum().backward()
    # equations 2 and 3 of LSQ, and equation 3 of LSQ+, element by element in numpy's float64
    data, factors = x.detach().double().numpy(), out.double().numpy()
    s, z = (np.broadcast_to(t.detach().double().numpy(), (6, 3)) for t in (scale, zero_point))
    factor = 1 / np.sqrt((6 if axis == 1 else 18) * quantizer.hi)
    by_input, by_scale, by_zero_point = np.zeros((6, 3)), np.zeros((6, 3)), np.zeros((6, 3))
    for index, value in np.ndenumerate(data):
        ratio, low, high = value / s[index], quantizer.lo - z[index], quantizer.hi - z[index]
        if low < ratio < high:
            by_input[index], by_scale[index] = 1, np.rint(ratio) - ratio
        else:
            by_scale[index], by_zero_point[index] = (low if ratio <= low else high), -s[index]
    assert 0 < by_input.mean() < 1
    summed = {"axis": 0} if axis == 1 else {"keepdims": False}
    np.testing.assert_array_equal(x.grad.numpy(), by_input * out.numpy())
    np.testing.assert_allclose(
        scale.grad.numpy(), np.reshape((by_scale * factors).sum(**summed), -1) * factor, rtol=1e-4, atol=1e-4
    )
    if isinstance(zero_point, torch.nn.Parameter):
        np.testing.assert_allclose(
            zero_point.grad.numpy(), np.reshape((by_zero_point * factors).sum(**summed), -1) * factor, rtol=1e-4
        )


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize(("zero_point", "lo", "hi"), [(0, -8, 7), (8, 0, 15)])
def test_what_is_clipped_shows_before_rounding(zero_point, lo, hi, axis):
    """Equation 3 of LSQ: 7.4 is beyond the largest number of a range that ends at 7, though it is rounded to it."""
    weight = torch.tensor([[7.4, -7.4, 3.7, 1.48]], requires_grad=True)
    scale, point = torch.ones(1, requires_grad=True), torch.full((1,), float(zero_point), requires_grad=True)
    made = fake_quantize(weight, scale, point, lo, hi, axis)
    assert made.tolist() == [[7, -7, 4, 1]]
    made.sum().backward()
    assert weight.grad.tolist() == [[0, 1, 1, 1]]
    factor = 1 / np.sqrt(4 * hi)
    assert scale.grad.item() == pytest.approx((7 + 0.4 + 0.3 - 0.48) * factor, abs=1e-5)
    assert point.grad.item() == pytest.approx(-factor)


def test_zeros_at_the_end_of_a_range_leave_zero_points_where_they_are():
    x, scale, zero_point = torch.zeros(5), torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    fake_quantize(x, scale, zero_point, 0, 255).sum().backward()
    assert (scale.grad.item(), zero_point.grad.item()) == (0, 0)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize(("lo", "hi"), [(-128, 127), (0, 255), (-8, 7)])
def test_values_are_those_of_the_operator_bit_for_bit_with_gradients(lo, hi, axis):
    x = torch.cat([normal(4, 8) * 5, (normal(4, 8, seed=1) * 100).round() * 0.05], 1)  # ties are among them
    scale = torch.full((1 if axis is None else x.shape[axis],), 0.1)
    zero_point = torch.full_like(scale, 3.3)
    plain = rounded_to(x, scale, zero_point.round().to(torch.int32), lo, hi, axis)
    for trained in (scale, scale.clone().requires_grad_()):
        assert torch.equal(fake_quantize(x.clone().requires_grad_(), trained, zero_point, lo, hi, axis), plain)


def test_gradients_reach_the_input_where_ranges_are_not_trained():
    x, quantizer = normal(4, 5).requires_grad_(), symmetric(np.float32(-1), np.float32(1))
    scale, zero_point = tensors_of(quantizer, CPU)
    fake_quantize(x, scale.detach(), zero_point, -128, 127).sum().backward()
    assert torch.equal(x.grad, (x.abs() < 1).float())
    assert 0 < x.grad.mean() < 1


def test_scales_lose_their_sign_and_are_never_zero():
    x, zero = normal(4), torch.zeros(1)
    assert torch.equal(fake_quantize(x, -torch.ones(1), zero, -128, 127), x.round())
    assert not fake_quantize(x, torch.zeros(1), zero, -128, 127).isnan().any()


@pytest.mark.parametrize("kind", [None, "f8e4m3"])
def test_gradients_of_scales_do_not_depend_on_how_many_samples_there_are(kind):
    """Twice the same samples give, with half of the loss, the same gradients."""
    x = normal(4, 3, 5)
    make = symmetric if kind is None else lambda low, high: floating(low, high, kind)
    quantizer = make(np.float32(-1), np.float32(1))
    found = []
    for copies in (1, 2):
        scale, zero_point = tensors_of(quantizer, CPU)
        samples = torch.cat([x] * copies)
        y = fake_quantize(samples, scale, zero_point, quantizer.lo, quantizer.hi, None, kind, len(samples))
        (y.square().sum((1, 2)).mean()).backward()
        found.append(scale.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(("lo", "hi"), [(-127, 127), (-64, 64), (-128, 127), (0, 255), (-8, 7), (0, 31)])
@pytest.mark.parametrize("axis", [None, 0])
def test_exported_programs_give_the_same(lo, hi, axis):
    class Rounding(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor([0.01, 0.02, 0.03] if axis == 0 else [0.01]))
            self.zero_point = torch.nn.Parameter(torch.full_like(self.scale, 3.2 if lo == 0 else 0))

        def forward(self, x):
            return fake_quantize(x, self.scale, self.zero_point, lo, hi, axis)

    rounding, x = Rounding(), normal(3, 50) * 2
    program = torch.export.export(rounding, (x,), dynamic_shapes=({1: torch.export.Dim.AUTO},))
    targets = {str(node.target) for node in program.graph.nodes}
    assert any("fake_quantize_per_" in target for target in targets)
    other = normal(3, 70, seed=1) * 2
    torch.testing.assert_close(program.module()(other), rounding(other), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_codes_are_those_that_values_are_rounded_to(axis):
    weight = normal(4, 6)
    others = None if axis is None else 1 - axis
    largest = weight.abs().max() if others is None else weight.abs().amax(others)
    quantizer = symmetric(-largest.numpy(), largest.numpy(), axis=axis)
    tensor = codes_of(weight, *tensors_of(quantizer, CPU), Rounding(-127, 127, axis))
    restored = tensor.codes.view(np.int8).reshape(4, 6) * tensor.scale
    np.testing.assert_allclose(restored, applied(weight, quantizer).detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["f8e4m3", "f8e5m2"])
@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("trained", [False, True])
def test_8_bit_floats(kind, axis, trained):
    """Values of the core's quantizer, also beyond its range; gradients go straight through where nothing is cut off."""
    x = normal(3, 4, 50, seed=1)
    x[:, :, ::7] *= 100
    ends = (np.float32(2), np.float32(2)) if axis is None else (np.full(4, 2, np.float32), np.arange(2, 6))
    quantizer = floating(-ends[0], ends[1], kind, axis=axis)
    x.requires_grad_(trained)
    scale, zero_point = tensors_of(quantizer, CPU)
    with torch.set_grad_enabled(trained):
        y = fake_quantize(x, scale, zero_point, quantizer.lo, quantizer.hi, axis, kind)
    np.testing.assert_array_equal(y.detach().numpy(), quantizer.apply(x.detach().numpy()))
    if not trained:
        return
    upstream = normal(*y.shape, seed=2)
    to_x, to_scale = torch.autograd.grad(y, (x, scale), upstream)
    s = scale.detach() if axis is None else scale.detach().reshape(1, -1, 1)
    ratio = x.detach() / s
    inside = ratio.abs() <= quantizer.hi
    assert 0 < inside.float().mean() < 1
    torch.testing.assert_close(to_x, upstream * inside)
    steps = torch.where(inside, y.detach() / s - ratio, ratio.sign() * quantizer.hi) * upstream
    summed = steps.sum().reshape(1) if axis is None else steps.sum((0, 2))
    torch.testing.assert_close(
        to_scale, summed / np.sqrt(x.numel() / scale.numel() * quantizer.hi), rtol=1e-3, atol=1e-3
    )
