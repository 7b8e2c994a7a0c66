"""Codebooks that are fitted to weights: the search against all tables, the objective, and models of every backend."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nncf
from nncf_core.advanced import AdvancedAdaptiveCodebookParameters
from nncf_core.api import compress_weights_config
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.pipeline import make_plan
from nncf_core.transformations import CompressConstant
from nncf_weight_compression.codebook_fitting import VALUE_TYPES, Adaptive, choose, histogram_of, losses_of, tables_for
from tests.algorithms.weight_compression.graphs import random

ADAPTIVE = nncf.CompressWeightsMode.ADAPTIVE_CODEBOOK
CB4 = np.array(SCHEMES["cb4"].codebook, np.float32)


def fitted(weight: np.ndarray, importance: np.ndarray | None = None, axis: int = 1, **params: Any) -> np.ndarray:
    """The table for a matrix whose channels lie along ``axis``."""
    size = params.pop("group_size", -1)
    group = None if size == -1 else axis
    where = {"reduction_axes": (axis,), "group_axis": group, "group_size": size, "importance": importance}
    values = {"value_type": "f8e4m3", "count": 16, "across_blocks": False, "codebook": None, **params}
    tables = tables_for(histogram_of(weight, **where), Adaptive.of(**values))
    return tables[int(np.argmin(losses_of(weight, tables=tables, **where)))]


def loss(
    weight: np.ndarray, table: np.ndarray, importance: np.ndarray | float = 1.0, axis: int = 1, size: int = -1
) -> float:
    """The objective, by the real kernels: each squared error times the importance of its channel."""
    scheme = SCHEMES["codebook"]
    group = None if size == -1 else axis
    tensor = compress(weight, scheme, reduction_axes=(axis,), group_axis=group, group_size=size, codebook=table)
    error = decompress(tensor, np.float32).astype(np.float64) - weight
    columns = np.asarray(importance, np.float64)
    return float((error**2 * (columns if axis == 1 or columns.ndim == 0 else columns[:, None])).sum())


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_other_choice_of_levels_costs_less(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 8))
    needed, count = data.draw(st.integers(0, size - 1)), data.draw(st.integers(2, 8))
    numbers = data.draw(st.lists(st.floats(0, 9), min_size=size * size, max_size=size * size))
    costs = np.where(np.tri(size, dtype=bool), np.inf, np.array(numbers).reshape(size, size))
    chosen = choose(costs, needed, count)
    assert len(chosen) == min(count, size)
    ends = {0, size - 1, needed} if count > 2 else {0, size - 1}
    assert ends <= set(chosen)

    def cost(levels: Sequence[int]) -> float:
        return float(sum(costs[i, j] for i, j in pairwise(levels)))

    others = [c for c in combinations(range(size), len(chosen)) if ends <= set(c)]
    assert cost(list(chosen)) == pytest.approx(min(cost(c) for c in others))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("size", [-1, 32])
def test_never_worse_than_cb4_in_its_own_objective(seed: int, with_data: bool, size: int) -> None:
    r = np.random.default_rng(seed)
    shape = (48, 128)
    weight = [
        lambda: r.normal(0, 0.02, shape), lambda: r.standard_t(3, shape), lambda: r.uniform(-1, 1, shape),
        lambda: r.laplace(0, 1, shape), lambda: np.abs(r.normal(0, 1, shape)), lambda: r.choice(CB4, shape),
    ][seed]().astype(np.float32)  # fmt: skip
    importance = r.exponential(1, 128) ** 3 if with_data else None
    table = fitted(weight, importance, group_size=size)
    weights = 1.0 if importance is None else importance
    own, known = loss(weight, table, weights, size=size), loss(weight, CB4, weights, size=size)
    assert own <= known
    if seed in (1, 2, 4):  # CB4 is made for others
        assert own < 0.95 * known


def test_nearly_as_good_as_lloyd_without_a_number_format() -> None:
    weight = random(64, 256)
    table = fitted(weight, value_type="float32")
    u = -weight / np.take_along_axis(weight, np.abs(weight).argmax(1)[:, None], 1)
    counts = np.broadcast_to((weight**2).max(axis=1, keepdims=True), u.shape).astype(np.float64)
    best = np.quantile(u, np.linspace(0, 1, 16))
    for _ in range(300):
        nearest = np.abs(u[..., None] - best).argmin(-1)
        best = np.array([np.average(u[nearest == i], weights=counts[nearest == i]) for i in range(16)])
    free = float((np.square(u - best[np.abs(u[..., None] - best).argmin(-1)]) * counts).sum())
    # the ends and zero cost something
    assert free < loss(weight, table) < 1.15 * free


@pytest.mark.parametrize("axis", [0, 1])
def test_important_channels_are_represented_better(axis: int) -> None:
    r = np.random.default_rng(3)
    weight = r.standard_t(3, (128, 128)).astype(np.float32)
    importance = np.where(np.arange(128) < 8, 1000.0, 0.01)
    shape = (1, -1) if axis == 1 else (-1, 1)
    weight = np.where(importance.reshape(shape) > 1, weight * 0.1, weight).astype(np.float32)
    with_data, without = fitted(weight, importance, axis), fitted(weight, None, axis)
    assert loss(weight, with_data, importance, axis) < 0.5 * loss(weight, without, importance, axis)


_HELD = {"f8e4m3": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2, "bfloat16": ml_dtypes.bfloat16}


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@pytest.mark.parametrize("count", [2, 3, 8, 16, 40, 256])
def test_tables(value_type: str, count: int) -> None:
    weight = random(16, 400)
    table = fitted(weight, value_type=value_type, count=count)
    dtype = np.dtype(_HELD.get(value_type, value_type))
    np.testing.assert_array_equal(table.astype(dtype).astype(np.float32), table)
    assert 2 <= len(table) <= count
    assert (np.diff(table) > 0).all()
    assert table[0] == -np.abs(table).max()
    assert count == 2 or 0 in table
    assert not np.signbit(table[table == 0]).any()
    assert len(table) == count or count > 16
    if count == 16:
        again = fitted(weight.copy(), value_type=value_type, count=count)
        assert again.tobytes() == table.tobytes()


def test_more_values_lose_less() -> None:
    weight = random(32, 256)
    losses = [loss(weight, fitted(weight, count=count)) for count in (4, 8, 16, 32, 64)]
    assert all(more < 0.5 * less for less, more in pairwise(losses))


@pytest.mark.parametrize("values", ["zeros", "negative", "one"])
def test_odd_weights(values: str) -> None:
    weight = {"zeros": np.zeros((4, 8)), "negative": -np.abs(random(4, 8)), "one": np.eye(4, 8)}[values]
    weight = weight.astype(np.float32)
    table = fitted(weight)
    tensor = compress(weight, SCHEMES["codebook"], reduction_axes=(1,), codebook=table)
    assert np.abs(decompress(tensor) - weight).max() <= 0.13 * np.abs(weight).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_errors(bad: float) -> None:
    weight = random(4, 8)
    weight[1, 2] = bad
    with pytest.raises(nncf.ValidationError, match="'w' holds an element"):
        histogram_of(weight, reduction_axes=(1,), name="w")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"value_type": "int3"}, "value_type is 'int3'; known are f8e4m3"),
        ({"num_elements": 1}, "num_elements is 1"),
        ({"num_elements": 257}, "between 2 and 256"),
    ],
)
def test_parameters(params: dict[str, Any], message: str) -> None:
    onnx_models = pytest.importorskip("tests.backends.onnx.models")
    advanced = nncf.AdvancedCompressionParameters(adaptive_codebook_params=AdvancedAdaptiveCodebookParameters(**params))
    with pytest.raises(nncf.ValidationError, match=message):
        nncf.compress_weights(onnx_models.matmul(random(8, 8)), mode=ADAPTIVE, advanced_parameters=advanced)


def test_a_table_to_start_with() -> None:
    with pytest.raises(nncf.ValidationError, match=r"codebook has shape \[3\].*num_elements is 16"):
        fitted(random(4, 8), codebook=np.array([-1, 0, 1], np.float32))
    own = np.array([-1.0, -0.5, 0.0, 0.25], np.float32)
    weight = np.random.default_rng(0).choice(own, (16, 64)).astype(np.float32)
    weight[:, 0] = -1
    # nothing is better than what the weights are made of
    assert loss(weight, fitted(weight, codebook=own, count=4)) == 0


class TestModels:
    """Two equal blocks and a head, on every backend."""

    @staticmethod
    def plan(framework: str, data: bool, **params: Any) -> tuple[dict[str, CompressConstant], Any]:
        pytest.importorskip("nncf_torch")
        torch = pytest.importorskip("torch")
        frameworks = pytest.importorskip("tests.algorithms.post_training_quantization.frameworks")

        class Blocks(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                layer = torch.nn.Linear
                self.blocks = torch.nn.ModuleList(
                    torch.nn.Sequential(layer(32, 64), torch.nn.ReLU(), layer(64, 32)) for _ in range(2)
                )
                self.head = layer(32, 5)

            def forward(self, x: Any) -> Any:
                for block in self.blocks:
                    x = x + block(x)
                return self.head(x)

        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = Blocks().eval()
        r = np.random.default_rng(0)
        samples = [(r.normal(0, 1, (1, 6, 32)) * r.exponential(1, 32) ** 2).astype(np.float32) for _ in range(4)]
        model, items = frameworks.network(module, samples, framework)
        advanced = nncf.AdvancedCompressionParameters(
            adaptive_codebook_params=AdvancedAdaptiveCodebookParameters(**params)
        )
        config = compress_weights_config(mode=ADAPTIVE, advanced_parameters=advanced)
        plan, _ = make_plan(config, model, dataset=nncf.Dataset(items) if data else None)
        edits = {e.constant: e for _, each in plan.steps for e in each if isinstance(e, CompressConstant)}
        done = nncf.compress_weights(
            model, mode=ADAPTIVE, advanced_parameters=advanced, dataset=nncf.Dataset(items) if data else None
        )
        wanted, found = frameworks.outputs(module, samples), frameworks.outputs(done, samples)
        assert np.abs(found - wanted).max() < 0.4 * np.abs(wanted).max()
        return edits, done

    @pytest.mark.parametrize("framework", ["onnx", "openvino", "torch"])
    def test_each_weight_has_its_table(self, framework: str) -> None:
        tables = {}
        for data in (True,) if framework == "torch" else (False, True):
            edits, _ = self.plan(framework, data)
            found = [e.tensor.codebook for e in edits.values() if e.tensor.codebook is not None]
            assert len(found) == 4
            assert len({table.tobytes() for table in found}) == 4
            tables[data] = np.concatenate(found).tobytes()
        assert len(set(tables.values())) == len(tables)

    @pytest.mark.parametrize("framework", ["onnx", "openvino", "torch"])
    def test_blocks_share_tables(self, framework: str) -> None:
        edits, _ = self.plan(framework, True, across_blocks=True)
        found = [e.tensor.codebook.tobytes() for e in edits.values() if e.tensor.codebook is not None]
        assert len(found) == 4
        assert found[:2] == found[2:]
        assert found[0] != found[1]
