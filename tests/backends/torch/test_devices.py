"""Weights stay on their device: on a GPU where there is one, and on a device that is none (``elsewhere``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import pytest
import torch

import nncf
from nncf import CompressWeightsMode as Mode
from nncf_core.numerics import array_kernels
from nncf_core.numerics.arrays import is_foreign
from nncf_core.numerics.kernels import decompress
from nncf_core.pipeline import make_plan
from nncf_core.plan import Plan
from nncf_core.registry import registry
from tests.backends.torch.elsewhere import COPIED, Elsewhere, ElsewhereMode, moved
from tests.backends.torch.models import Convolutions, Tied, normal, seeded, sequential
from tests.backends.torch.test_forms import MODES, settings

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Place:
    """A device, and the way to it and back."""

    def __init__(self, name: str) -> None:
        self.real = name == "cuda"

    def move(self, value: Any) -> Any:
        if isinstance(value, torch.nn.Module):
            return value.to("cuda") if self.real else moved(value)
        return value.to("cuda") if self.real else Elsewhere(value)

    def back(self, tensor: torch.Tensor) -> torch.Tensor:
        assert tensor.device.type == "cuda"
        assert self.real or isinstance(tensor, Elsewhere)
        return tensor.cpu() if self.real else tensor.inner

    def same(self, got: Mapping[str, torch.Tensor], want: Mapping[str, torch.Tensor]) -> None:
        assert list(got) == list(want)
        for name, tensor in want.items():
            found, bits = self.back(got[name].detach()), BITS[tensor.element_size()]
            assert found.dtype == tensor.dtype, name
            assert torch.equal(found.view(bits), tensor.detach().view(bits)), name


@pytest.fixture(
    params=[
        "elsewhere",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
    ]
)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(array_kernels, "_PIECE", 1024)
    found = Place(request.param)
    COPIED.clear()
    with nullcontext() if found.real else ElsewhereMode():
        yield found


def nothing_was_copied() -> bool:
    """But numbers one by one: whether all is finite, for instance."""
    return set(COPIED) <= {1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_buffers_have_the_bits_that_the_cpu_gives(mode, dtype, place):
    want = nncf.compress_weights(sequential(dtype), **settings(mode))
    got = nncf.compress_weights(place.move(sequential(dtype)), **settings(mode))
    place.same(got.state_dict(), want.state_dict())
    assert nothing_was_copied()
    assert nncf.torch.get_config(got) == nncf.torch.get_config(want)


@pytest.mark.parametrize("model", [Tied, Convolutions])
def test_other_layers(model, place):
    for options in ({}, {"mode": Mode.INT4_SYM, "group_size": 16, "ratio": 0.6}):
        want = nncf.compress_weights(seeded(model()), **options)
        got = nncf.compress_weights(place.move(seeded(model())), **options)
        place.same(got.state_dict(), want.state_dict())
    assert nothing_was_copied()


def test_which_layers_keep_four_bits_is_the_same(place):
    options = {"mode": Mode.INT4_ASYM, "group_size": 32, "ratio": 0.5, "all_layers": True}
    want = nncf.compress_weights(sequential(), **options)
    got = nncf.compress_weights(place.move(sequential()), **options)
    place.same(got.state_dict(), want.state_dict())
    assert nothing_was_copied()


@pytest.mark.parametrize("mode", [Mode.INT4_ASYM, Mode.INT3_SYM, Mode.MXFP4, Mode.NVFP4, Mode.FP8_E4M3], ids=str)
def test_programs(mode, place):
    program = torch.export.export(sequential(), (normal(2, 64),))
    want = nncf.compress_weights(program, **settings(mode))
    for name, tensor in program.state_dict.items():
        program.state_dict[name] = torch.nn.Parameter(place.move(tensor.detach()), requires_grad=False)
    got = nncf.compress_weights(program, **settings(mode))
    place.same(got.state_dict, want.state_dict)
    assert nothing_was_copied()


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_compressed_weights_are_read_where_they_lie(mode, place):
    want = nncf.compress_weights(sequential(torch.float16), **settings(mode))
    got = nncf.compress_weights(place.move(sequential(torch.float16)), **settings(mode))
    stripped = nncf.strip(got, strip_format=nncf.StripFormat.IN_PLACE)
    place.same(stripped.state_dict(), nncf.strip(want, strip_format=nncf.StripFormat.IN_PLACE).state_dict())
    assert nothing_was_copied()
    for name, constant in nncf.build_graph(got).constants.items():
        known = nncf.build_graph(want).constants[name]
        assert is_foreign(constant.array())
        assert not is_foreign(known.array())
        assert constant.stored_bytes == known.stored_bytes
        assert constant.read().tobytes() == known.read().tobytes()
        if constant.compressed is not None:
            assert decompress(constant.compressed().on_host()).tobytes() == known.read().tobytes()


def test_plans_hold_no_device(place, tmp_path):
    config = nncf.NNCFConfig({"compression": {"algorithm": "weight_compression", "mode": "nvfp4", "all_layers": True}})
    for name, model in (("here", sequential()), ("there", place.move(sequential()))):
        make_plan(config, model)[0].save(tmp_path / name)
    for file in ("plan.json", "arrays.npz"):
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()
    backend = registry().backends["torch"]
    working = backend.builder.open(place.move(sequential()), {})
    edits = [edit for _, edits in Plan.load(tmp_path / "there").steps for edit in edits]
    applied = backend.inserter.apply(working, backend.builder.build(working), edits, {}).module
    want = nncf.compress_weights(sequential(), mode=Mode.NVFP4, all_layers=True)
    place.same(applied.state_dict(), want.state_dict())


def test_bad_values_are_named(place):
    model = sequential()
    with torch.no_grad():
        model[2].weight[3, 7] = torch.nan
    with pytest.raises(nncf.ValidationError, match=r"'2\.weight' has the value nan at \[3, 7\].*ignored_scope"):
        nncf.compress_weights(place.move(model))
    assert nothing_was_copied()


def test_the_result_runs_there(place):
    x = normal(3, 64)
    want = nncf.compress_weights(sequential(), **settings(Mode.INT4_SYM))
    got = nncf.compress_weights(place.move(sequential()), **settings(Mode.INT4_SYM))
    torch.testing.assert_close(place.back(got(place.move(x)).detach()), want(x).detach())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", [Mode.INT8_ASYM, Mode.INT4_SYM, Mode.NVFP4], ids=str)
def test_memory_of_a_gpu(mode):
    layer = torch.nn.Linear(16384, 8192, bias=False, dtype=torch.bfloat16, device="cuda")
    options = {} if mode is Mode.INT8_ASYM else {"all_layers": True}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    small = nncf.compress_weights(torch.nn.Sequential(layer), mode=mode, **options)
    stored = sum(buffer.nbytes for buffer in small.buffers())
    # codes with signs flipped are made beside those without
    assert torch.cuda.max_memory_allocated() - before < 2 * stored + 64e6
