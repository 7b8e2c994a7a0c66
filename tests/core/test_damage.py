"""What rounding does to weights, as reports show it."""

import math

import numpy as np
import pytest

from nncf_core.damage import BINS, measured
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, WeightLayout
from nncf_core.numerics.formats import scheme_for
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.transformations import CompressConstant, ReplaceConstant


def of(weight: np.ndarray) -> Graph:
    constant = Constant("w", weight.dtype.name, weight.shape, lambda: weight)
    ports = (Port("x"), Port("w", constant="w", layout=WeightLayout((0,), (1,))))
    return Graph("any", [Node("layer", "MatMul", OpKind.MATMUL, ports)], {"w": constant})


@pytest.mark.parametrize("scheme", ["int8_asym", "int4_sym", "nf4"])
def test_the_ratio_is_that_of_signal_and_noise(scheme: str) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    tensor = compress(weight, scheme_for(scheme), reduction_axes=0)
    edits = [CompressConstant("w", tensor), ReplaceConstant("w", weight)]
    found: list = []
    assert list(measured(edits, of(weight), found)) == edits
    (damage,) = found
    kept = decompress(tensor).astype(np.float64)
    expected = 10 * math.log10((weight.astype(np.float64) ** 2).sum() / ((weight - kept) ** 2).sum())
    assert damage.snr == pytest.approx(expected, rel=1e-6)
    assert (damage.target, damage.users) == ("w", ("layer",))
    assert (damage.low, damage.high) == (weight.min(), weight.max())
    assert sum(damage.before) == sum(damage.after) == weight.size
    assert damage.before == tuple(np.histogram(weight, BINS)[0])


def test_what_loses_nothing() -> None:
    for weight in (np.zeros((64, 8), np.float32), np.full((64, 8), 0.5, np.float32)):
        tensor = compress(weight, scheme_for("int8_asym"), reduction_axes=0)
        found: list = []
        list(measured([CompressConstant("w", tensor)], of(weight), found))
        assert found[0].snr > 90
        assert sum(found[0].before) == weight.size
