"""Arrays of other libraries get the bits that numpy's kernels give, with nothing but the array API standard."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import slow_twin
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nncf_core.errors import NNCFError, ValidationError
from nncf_core.numerics import array_kernels, array_packing, kernels, packing
from nncf_core.numerics.arrays import to_host
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.tensor import CompressedTensor

CODEBOOK = np.array([-2.0, -0.7, -0.1, 0.0, 0.3, 1.0, 5.0], np.float32)
SHAPES = [
    ((5, 48), (1,), -1),
    ((5, 48), (-1,), 16),
    ((48, 5), (0,), -1),
    ((48, 5), (-2,), 16),
    ((2, 32, 3), (1,), 8),
    ((2, 3, 32), (2,), 32),
    ((3, 2, 3, 5), (1, 2, 3), -1),
    ((3, 4, 3, 2), (0, 2, 3), -1),
    ((7,), (0,), -1),
    ((1, 9, 1), (1,), 3),
    ((3, 201), (1,), -1),
    ((9, 77), (1,), 11),
]
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


def tensor_of(array: np.ndarray, device: str) -> torch.Tensor:
    bits = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}[array.itemsize]
    plain = torch.from_numpy(np.ascontiguousarray(array).view(bits).copy())
    return plain.view(getattr(torch, array.dtype.name)).to(device)


def normal(shape, dtype="float32", seed=0, size=0.05):
    return (np.random.default_rng(seed).standard_normal(shape) * size).astype(np.dtype(dtype))


def arguments(mode, axes, group_size, codebook=CODEBOOK):
    return {
        "scheme": SCHEMES[mode],
        "reduction_axes": axes,
        "group_size": group_size,
        "codebook": codebook if mode == "codebook" else None,
        "name": "w",
    }


def assert_same(got: CompressedTensor, want: CompressedTensor) -> None:
    assert got.nbytes == want.nbytes
    host = got.on_host()
    for part in ("codes", "scale", "zero_point", "codebook"):
        mine, theirs = getattr(host, part), getattr(want, part)
        assert (mine is None) == (theirs is None)
        if theirs is not None:
            if part == "scale" and host.scale_format is not None:  # numpy as one library among others
                mine = mine.view(np.dtype(host.scale_format))
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
            assert mine.tobytes() == theirs.tobytes(), part
    for part in ("format", "shape", "dtype", "reduction_axes", "group_axis", "group_size", "global_scale"):
        assert getattr(host, part) == getattr(want, part)


def assert_same_as_numpy(weight, mode, axes, group_size=-1, codebook=CODEBOOK, device="cpu"):
    options = arguments(mode, axes, group_size, codebook)
    want = kernels.compress(weight, **options)
    tensor = tensor_of(weight, device)
    got = kernels.compress(tensor, **options)
    assert all(part.device.type == device for part in (got.codes, got.scale))
    assert_same(got, want)
    for dtype in (None, np.float32, np.float16):
        assert to_host(kernels.decompress(got, dtype)).tobytes() == kernels.decompress(want, dtype).tobytes()


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "float8_e4m3fn"])
@pytest.mark.parametrize("mode", SCHEMES)
def test_torch_gives_the_same_bits(mode, dtype, device, monkeypatch):
    monkeypatch.setattr(array_kernels, "_PIECE", 96)  # small tensors take the ways of large ones
    for shape, axes, group_size in SHAPES:
        weight = normal(shape, dtype)
        assert_same_as_numpy(weight, mode, axes, group_size, device=device)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("mode", SCHEMES)
def test_special_groups(mode, device):
    tiny = np.finfo(np.float32).smallest_subnormal
    rows = [
        np.zeros(16), -np.zeros(16), np.full(16, 0.25), np.full(16, -0.25), np.linspace(0.1, 3, 16),
        np.linspace(-2, 1, 16), [1e-3] * 15 + [-7.0], [tiny, -tiny] * 8, [tiny] * 16, np.arange(16) - 8.0,
    ]  # fmt: skip
    weight = np.array(rows).astype(np.float32)
    assert_same_as_numpy(weight, mode, (1,), device=device)
    assert_same_as_numpy(np.ascontiguousarray(weight.T), mode, (0,), 8, device=device)
    for magnitude in (1e-42, 1e-7, 2e-5, 3e4, 1e7, 2.0**125):  # float16 does not hold the scales of all
        weight = normal((3, 32), "float64", size=1)
        assert_same_as_numpy(
            (weight * magnitude / np.abs(weight).max()).astype(np.float32), mode, (1,), 16, device=device
        )


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("mode", [m for m in SCHEMES if m in slow_twin.MAGNITUDES or m in ("nf4", "cb4")])
def test_ties_and_neighbours_of_ties(mode, device):
    table = slow_twin.MAGNITUDES.get(mode) or {"nf4": slow_twin.NF4, "cb4": slow_twin.CB4}[mode]
    exact = np.array(table, np.float64)
    middles = ((exact[:-1] + exact[1:]) / 2).astype(np.float32)
    up, down = np.nextafter(middles, np.float32(np.inf)), np.nextafter(middles, np.float32(-np.inf))
    points = np.concatenate([middles, up, down, exact])
    weight = np.concatenate([points, -points]).astype(np.float32)[None]  # holds its own peak: the scale is ±1
    assert_same_as_numpy(weight, mode, (1,), device=device)


@given(
    weight=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=6),
        elements=st.floats(-(2.0**126), 2.0**126, width=32) | st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0]),
    ),
    mode=st.sampled_from(list(SCHEMES)),
    data=st.data(),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_same_bits_for_anything(weight, mode, data):
    axes = data.draw(st.sets(st.integers(0, weight.ndim - 1), min_size=1))
    assert_same_as_numpy(weight, mode, sorted(axes))


@pytest.mark.parametrize("entries", [2, 17, 257])
def test_codebook_sizes(entries):
    codebook = np.sort(np.random.default_rng(1).standard_normal(entries)).astype(np.float32)
    assert_same_as_numpy(normal((3, 20)), "codebook", (1,), codebook=codebook)
    assert_same_as_numpy(normal((3, 4, 3, 2)), "codebook", (0, 2), codebook=codebook)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_numpy_as_one_library_among_others(dtype, monkeypatch):
    monkeypatch.setattr(array_kernels, "_PIECE", 96)
    for mode, (shape, axes, group_size) in itertools.product(SCHEMES, SHAPES):
        weight = normal(shape, dtype)
        options = arguments(mode, axes, group_size)
        want, got = kernels.compress(weight, **options), array_kernels.compress(weight, **options)
        assert_same(got, want)
        values = array_kernels.decompress(got, np.float32)
        np.testing.assert_array_equal(values, kernels.decompress(want, np.float32))


@pytest.mark.needs("array_api_strict")
def test_nothing_but_the_standard_takes_part():
    """But for float16, which is looked up by its name."""
    import array_api_strict as strict

    for shape, axes, group_size in SHAPES:
        weight = normal(shape)
        for mode in ("mxfp4", "mxfp8_e4m3", "nvfp4"):
            options = arguments(mode, axes, group_size)
            want, got = kernels.compress(weight, **options), array_kernels.compress(strict.asarray(weight), **options)
            assert np.asarray(got.codes).tobytes() == want.codes.tobytes()
            assert np.asarray(got.scale).tobytes() == want.scale.tobytes()
            assert np.asarray(kernels.decompress(got)).tobytes() == kernels.decompress(want).tobytes()
        error = kernels.quantization_error(strict.asarray(weight), axes)
        assert error == pytest.approx(kernels.quantization_error(weight, axes), rel=1e-6)
    with pytest.raises(ValidationError, match="no element type float16"):
        kernels.compress(strict.asarray(normal((2, 8))), SCHEMES["int4_sym"], reduction_axes=1)


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("count", [1, 5, 8, 29])
def test_packing(bits, count):
    codes = np.random.default_rng(bits).integers(0, 2**bits, count)
    want = packing.pack(codes.astype(np.uint16 if bits == 16 else np.uint8), bits)
    got = array_packing.pack(torch.from_numpy(codes.astype(np.int32)), bits)
    np.testing.assert_array_equal(got.numpy(), want)
    for start, signed in itertools.product(range(0, count, 3), [False, True]):
        found = array_packing.unpack(got, bits, count - start, signed, start)
        np.testing.assert_array_equal(found.numpy(), packing.unpack(want, bits, count - start, signed, start))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape_axes", [((6, 50), (1,)), ((50, 6), (0,)), ((3, 4, 5), (0, 2)), ((9,), (0,))])
def test_quantization_error(shape_axes, dtype, monkeypatch):
    monkeypatch.setattr(array_kernels, "_PIECE", 64)
    weight = normal(shape_axes[0], dtype)
    error = kernels.quantization_error(tensor_of(weight, "cpu"), shape_axes[1])
    assert error == pytest.approx(kernels.quantization_error(weight, shape_axes[1]), rel=1e-6)
    huge = torch.tensor([0.0, 1e30, 1.7e36])
    assert kernels.quantization_error(huge, 0) == np.inf


def test_errors_are_those_of_numpy(monkeypatch):
    monkeypatch.setattr(array_kernels, "_PIECE", 16)
    cases = [
        (normal((6, 8), dtype), value, mode)
        for dtype in ("float32", "float16", "bfloat16", "float64")
        for value in (np.nan, np.inf, -np.inf)
        for mode in ("int8_asym", "nf4", "mxfp8_e4m3", "nvfp4")
    ]
    cases += [(normal((6, 8)), 3e38, "int4_sym"), (normal((6, 8), "float64"), -1e300, "int4_sym")]
    for weight, value, mode in cases:
        weight[4, 3] = weight[5, 0] = value
        for axes in ((0,), (1,), (0, 1)):
            messages = []
            for array in (weight, tensor_of(weight, "cpu")):
                with pytest.raises(ValidationError, match=r"'w' has the value .* at \[4, 3\]") as caught:
                    kernels.compress(array, SCHEMES[mode], reduction_axes=axes, name="w")
                messages.append(str(caught.value))
                with pytest.raises(ValidationError, match=r"'w' has the value"):
                    kernels.quantization_error(array, axes, name="w")
            assert messages[0] == messages[1]
    for array, options in [
        (torch.full((2, 2), 1e30), {"scheme": SCHEMES["codebook"], "codebook": [-1e-30, 1e-30]}),
        (torch.zeros((2, 2), dtype=torch.int32), {"scheme": SCHEMES["int8_sym"]}),
        (torch.zeros((2, 2), dtype=torch.complex64), {"scheme": SCHEMES["int8_sym"]}),
        (torch.zeros((2, 0)), {"scheme": SCHEMES["int8_sym"]}),
        (torch.zeros((2, 12)), {"scheme": SCHEMES["int4_sym"], "group_size": 5}),
    ]:
        messages = []
        for other in (array, array.numpy()):
            with pytest.raises(NNCFError, match="'w'") as caught:
                kernels.compress(other, reduction_axes=1, name="w", **options)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


class Largest(TorchDispatchMode):
    """The largest memory, in bytes, that any tensor of a result has of its own."""

    def __init__(self, *known: torch.Tensor) -> None:
        super().__init__()
        self.known, self.sizes = {tensor.untyped_storage().data_ptr() for tensor in known}, {0}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.sizes.add(tensor.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("mode", SCHEMES)
@pytest.mark.parametrize(("shape", "axis"), [((64, 4096), 1), ((4096, 64), 0), ((8, 32768), 1)])
def test_memory_beyond_the_result_is_that_of_a_piece(mode, shape, axis, monkeypatch):
    monkeypatch.setattr(array_kernels, "_PIECE", 4096)
    weight = tensor_of(normal(shape, "bfloat16"), "cpu")
    options = arguments(mode, axis, SCHEMES[mode].fixed_group_size or 64)
    with Largest(weight) as compressing:
        tensor = kernels.compress(weight, **options)
    result = {
        part.untyped_storage().nbytes() for part in (tensor.codes, tensor.scale, tensor.zero_point) if part is not None
    }
    # positions that a search gives have 8 bytes
    assert max(compressing.sizes - result) <= 8 * 4096
    with Largest(tensor.codes, tensor.scale) as decompressing:
        values = kernels.decompress(tensor)
    assert max(decompressing.sizes - {values.untyped_storage().nbytes()}) <= 8 * 4096


def test_kernels_of_numpy_load_no_other_library():
    code = (
        "import sys, numpy; from nncf_core.numerics import kernels, formats;"
        "t = kernels.compress(numpy.ones((2, 8), 'f4'), formats.SCHEMES['int8_asym'], reduction_axes=1);"
        "kernels.decompress(t.on_host()); t.nbytes; print([m for m in sys.modules if 'array_api_compat' in m])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
