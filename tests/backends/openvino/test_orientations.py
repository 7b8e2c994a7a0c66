"""Weights that operators use in different orientations, of which the CPU plugin would join one with wrong scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

pytest.importorskip("nncf_openvino")

import nncf
from tests.backends.openvino.models import (
    constant,
    graph_of,
    model_of,
    named,
    ops,
    parameter,
    random,
    run,
)
from tests.backends.openvino.test_forms import CODEBOOK

MODE = nncf.CompressWeightsMode
ROWS, COLUMNS = 128, 64
MODES = [mode for mode in MODE if mode not in (MODE.INT8, MODE.E2M1, MODE.ADAPTIVE_CODEBOOK, MODE.CB4_F8E4M3)]


def swapped(node):
    return ops.transpose(node, ops.constant(np.array([1, 0])))


def layer(kind, x, w):
    """``x @ w`` or ``x @ w.T``, each in several ways."""
    if kind == "plain":
        return ops.matmul(x, w, False, False)
    if kind == "transposed":
        return ops.matmul(x, w, False, True)
    if kind == "behind a transpose":
        return ops.matmul(x, swapped(w), False, False)
    if kind == "plain, behind a transpose":
        return ops.matmul(x, swapped(w), False, True)
    return swapped(ops.matmul(w, x, kind == "plain, on the left", True))


TURNED = ["transposed", "behind a transpose", "on the left"]
PLAIN = ["plain", "plain, behind a transpose", "plain, on the left"]


def products(first, second, dtype="float32"):
    """Two products by one weight, one of which is transposed."""
    x = parameter([-1, ROWS if first in PLAIN else COLUMNS], "x")
    w = constant(random(ROWS, COLUMNS, dtype=dtype), "w")
    taken = w if dtype == "float32" else named(ops.convert(w, "f32"), "w/wide")
    hidden = named(layer(first, x, taken), "first")
    return model_of([named(layer(second, ops.relu(hidden), taken), "second", "y")], [x])


def table(*kinds):
    """A table whose rows are taken, and products by it."""
    tokens = parameter([-1], "tokens", np.int64)
    w = constant(random(ROWS, COLUMNS), "w")
    y = ops.gather(w, tokens, constant(np.array(0), "axis"))
    for index, kind in enumerate(kinds):
        if index == 0 and kind in PLAIN:
            y = ops.matmul(y, constant(random(ROWS, COLUMNS, seed=1), "between"), False, True)
        y = named(layer(kind, ops.relu(y), w), f"layer{index}")
    return model_of([named(ops.relu(y), "last", "y")], [tokens])


def columns():
    """A product by a weight, and some of its columns."""
    x, tokens = parameter([-1, ROWS], "x"), parameter([-1], "tokens", np.int64)
    w = constant(random(ROWS, COLUMNS), "w")
    y = named(ops.matmul(x, w, False, False), "product", "y")
    return model_of([y, named(ops.gather(w, tokens, constant(np.array(1), "axis")), "columns", "z")], [x, tokens])


def compressed(model, mode):
    if str(mode).startswith("int8"):
        return nncf.compress_weights(model, mode=mode)
    advanced = nncf.AdvancedCompressionParameters(
        codebook=CODEBOOK if mode == MODE.CODEBOOK else None,
        group_size_fallback_mode=nncf.GroupSizeFallbackMode.IGNORE,
    )
    sizes = {"group_size": 32} if str(mode) in ("int4_sym", "int4_asym", "nf4", "int2_sym", "int3_sym") else {}
    if mode in (MODE.FP8_E4M3, MODE.FP4, MODE.CODEBOOK):
        sizes = {"group_size": -1}
    return nncf.compress_weights(model, mode=mode, all_layers=True, advanced_parameters=advanced, **sizes)


def layouts(graph):
    users = [(node, port) for node, port in graph.users("w") if node.inputs[port].layout is not None]
    return [(node.name, port, node.inputs[port].layout) for node, port in users]


def check(model, mode, exact=True):
    """A compressed model gives what it gives with the weights that its codes stand for, and knows them again."""
    small = compressed(model, mode)
    feed = {
        name: random(3, shape[1].get_length(), scale=1, seed=2) if len(shape) == 2 else np.array([1, 3, 60])
        for port in model.inputs
        for name, shape in [(port.any_name, port.get_partial_shape())]
    }
    found = graph_of(small)
    assert found.constants["w"].compressed is not None
    assert layouts(found) == layouts(graph_of(model))
    whole = nncf.strip(small, strip_format=nncf.StripFormat.IN_PLACE)
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert [node.get_type_name() for node in whole.get_ordered_ops()].count("Reshape") == kinds.count("Reshape")
    tolerance = 1e-5 if exact and mode != MODE.NF4 else 2e-3  # float16
    for got, want in zip(run(small, **feed), run(whole, **feed), strict=True):
        assert np.abs(got - want).max() <= tolerance * np.abs(want).max()
    return small


@pytest.mark.parametrize("mode", MODES)
def test_in_every_mode(mode: MODE) -> None:
    check(products("transposed", "plain"), mode)
    check(products("plain", "transposed"), mode)
    check(table("plain", "transposed"), mode)


@pytest.mark.parametrize("mode", [MODE.INT8_ASYM, MODE.INT4_SYM])
@pytest.mark.parametrize("turned", TURNED)
@pytest.mark.parametrize("plain", PLAIN)
def test_however_it_is_turned(mode: MODE, turned: str, plain: str) -> None:
    check(products(turned, plain), mode)


@pytest.mark.parametrize("mode", [MODE.INT8_SYM, MODE.INT4_ASYM])
def test_other_users(mode: MODE) -> None:
    check(table("plain"), mode)
    check(table("transposed", "plain"), mode)
    check(columns(), mode)
    check(products("transposed", "plain", dtype="float16"), mode, exact=False)


@pytest.mark.parametrize("mode", [MODE.INT8_ASYM, MODE.INT4_SYM])
def test_through_files(tmp_path: Path, mode: MODE) -> None:
    from nncf_core.pipeline import run as compress

    source, target = tmp_path / "model.xml", tmp_path / "small.xml"
    ov.save_model(products("transposed", "plain"), source, compress_to_fp16=False)
    sizes = {} if mode == MODE.INT8_ASYM else {"group_size": 32, "all_layers": True}
    section = {"algorithm": "weight_compression", "mode": str(mode), **sizes}
    compress({"compression": section}, source, output=target)
    small, x = ov.Core().read_model(target), random(3, COLUMNS, seed=2, scale=1)
    whole = nncf.strip(small, strip_format=nncf.StripFormat.IN_PLACE)
    np.testing.assert_allclose(run(small, x=x)[0], run(whole, x=x)[0], atol=1e-5)


def test_what_is_compressed_is_left_alone_and_can_be_compressed_again() -> None:
    model = products("transposed", "plain")
    small = compressed(model, MODE.INT4_SYM)
    names = [node.get_friendly_name() for node in small.get_ordered_ops()]
    assert [node.get_friendly_name() for node in compressed(small, MODE.INT8_ASYM).get_ordered_ops()] == names
    whole = nncf.strip(small, strip_format=nncf.StripFormat.IN_PLACE)
    assert graph_of(compressed(whole, MODE.INT8_ASYM)).constants["w"].compressed_format == "uint8"


def test_one_orientation_is_joined_as_ever() -> None:
    x = parameter([-1, COLUMNS], "x")
    w = constant(random(COLUMNS, COLUMNS), "w")
    y = ops.matmul(ops.relu(ops.matmul(x, w, False, True)), w, False, True)
    small = compressed(model_of([named(y, "second", "y")], [x]), MODE.INT8_SYM)
    assert "Reshape" not in [node.get_type_name() for node in small.get_ordered_ops()]
