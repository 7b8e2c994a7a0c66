"""Tensors of compressed weights: nothing is lost, whatever the shape, the axis, the group and the format."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nncf
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress
from nncf_core.numerics.kernels import decompress as wanted_values
from nncf_torch.stored import PARTS, decode, decompress, encode, stored_bytes
from tests.backends.torch.models import normal, seeded


@st.composite
def tensors(draw):
    """A random weight in a random scheme."""
    scheme = draw(st.sampled_from(list(SCHEMES.values())))
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(shape) - 1))
    size = scheme.fixed_group_size or draw(st.sampled_from([-1, 1, 3, 8]))
    if size != -1:
        shape[axis] *= size
    dtype = draw(st.sampled_from(["float32", "float16", "bfloat16", "float64"]))
    scale = draw(st.sampled_from([1.0, 1e-6, 1e4]))
    table = np.cumsum(np.full(draw(st.sampled_from([2, 16, 17, 256, 300])), 0.25, np.float32)) - 1
    weight = normal(*shape, seed=draw(st.integers(0, 99))).numpy() * np.float32(scale)
    return compress(
        weight.astype(np.dtype(dtype)),
        scheme,
        reduction_axes=axis,
        group_axis=None if size == -1 else axis,
        group_size=size,
        codebook=table if scheme.name == "codebook" else None,
    )


@settings(max_examples=300, deadline=None)
@given(tensors())
def test_values_and_codes_come_back(tensor):
    stored, parts = encode(tensor)
    values = decompress(stored, *(parts.get(part) for part in PARTS))
    bits = torch.int64 if tensor.dtype == "float64" else torch.int32 if tensor.dtype == "float32" else torch.int16
    wanted = wanted_values(tensor)
    assert values.contiguous().view(bits).numpy().tobytes() == wanted.tobytes()
    found = decode(stored, parts)
    for field in ("codes", "scale", "zero_point", "codebook"):
        mine, theirs = getattr(found, field), getattr(tensor, field)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.dtype == theirs.dtype
            assert mine.shape == theirs.shape
            assert mine.tobytes() == theirs.tobytes()
    for field in ("format", "shape", "dtype", "reduction_axes", "group_axis", "group_size", "global_scale"):
        assert getattr(found, field) == getattr(tensor, field)
    assert all(part.is_contiguous() for part in parts.values())


@given(st.sampled_from([2, 3, 4, 8]), st.integers(1, 40), st.integers(1, 40))
def test_codes_take_their_bits(bits, rows, columns):
    names = {2: "int2_sym", 3: "int3_sym", 4: "int4_sym", 8: "int8_sym"}
    tensor = compress(normal(rows, columns).numpy(), SCHEMES[names[bits]], reduction_axes=1)
    _, parts = encode(tensor)
    assert stored_bytes({"codes": parts["codes"]}) <= math.ceil(rows * columns * bits / 8) + 2


class TestUnusualModels:
    def test_without_weights(self):
        model = nn.Sequential(nn.ReLU())
        assert torch.equal(nncf.compress_weights(model)(torch.ones(2)), torch.ones(2))

    def test_a_layer_alone(self):
        model = seeded(nn.Linear(64, 32))
        small = nncf.compress_weights(model)
        assert isinstance(small, nn.Linear)
        assert sorted(small.state_dict()) == ["bias", "weight_codes", "weight_scale", "weight_zero_point"]

    def test_parametrized_weights_are_left_alone(self):
        model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)))
        x = normal(2, 8)
        assert torch.equal(nncf.compress_weights(model)(x), model(x))

    def test_weights_that_are_views(self):
        model = seeded(nn.Linear(64, 32))
        model.weight = nn.Parameter(model.weight.detach().t().contiguous().t())
        plain = seeded(nn.Linear(64, 32))
        assert torch.equal(nncf.compress_weights(model).weight, nncf.compress_weights(plain).weight)

    @pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
    def test_weights_that_hooks_compute_are_left_alone(self):
        model, x = nn.Sequential(nn.utils.weight_norm(nn.Linear(64, 64)), nn.Linear(64, 8)), normal(3, 64)
        for dataset in (None, nncf.Dataset([x])):
            small = nncf.compress_weights(model, dataset=dataset)
            assert [name for name in small.state_dict() if name.endswith("_codes")] == ["1.weight_codes"]
            assert torch.allclose(small(x), model(x), atol=0.1)

    @pytest.mark.parametrize("made", [torch.jit.script, lambda model: torch.jit.trace(model, normal(3, 64))])
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_scripts_are_refused(self, made):
        with pytest.raises(nncf.UnsupportedModelError, match=r"TorchScript.*was made from"):
            nncf.compress_weights(made(nn.Sequential(nn.Linear(64, 8))))

    def test_what_the_compiler_gave_is_run_uncompiled_to_find_weights(self):
        model, x = torch.compile(nn.Sequential(nn.Linear(64, 8)), backend="eager"), normal(3, 64)
        small = nncf.compress_weights(model, dataset=nncf.Dataset([x]))
        assert "_orig_mod.0.weight_codes" in small.state_dict()
        assert torch.allclose(small(x), model(x), atol=0.1)

    def test_classes_that_are_made_are_not_shown_to_the_users(self):
        class Registered(nn.Linear):
            known: ClassVar[list[type]] = []

            def __init_subclass__(cls, **options):
                super().__init_subclass__(**options)
                Registered.known.append(cls)

        assert isinstance(nncf.compress_weights(Registered(64, 8)), Registered)
        assert Registered.known == []

    @pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
    def test_an_empty_weight_is_an_error(self):
        with pytest.raises(nncf.ValidationError, match="no elements"):
            nncf.compress_weights(nn.Sequential(nn.Linear(0, 4)))

    def test_weights_without_values_are_an_error(self):
        with pytest.raises(nncf.NNCFError, match=r"0\.weight.*no values"):
            nncf.compress_weights(nn.Sequential(nn.Linear(8, 4, device="meta")))
