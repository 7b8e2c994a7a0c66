"""Gram matrices of activations against plain products in float64."""

import numpy as np
import pytest

from nncf_core.errors import ValidationError
from nncf_core.grams import CrossGram, Gram

ITEMS = [np.random.default_rng(n).normal(size=(2, 3 + n, 5)).astype(np.float32) for n in range(4)]


def rows(items, axis):
    return np.concatenate([np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]) for x in items]).astype(np.float64)


@pytest.mark.parametrize(("axis", "items"), [(-1, ITEMS), (0, ITEMS), (2, [x.astype(np.float16) for x in ITEMS])])
def test_mean_of_products(axis, items):
    gram = Gram(axis=axis)
    for x in items:
        gram.update(x)
    x = rows(items, axis)
    np.testing.assert_allclose(gram.value, x.T @ x / len(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(gram.value, gram.value.T)
    assert gram.value.dtype == np.float32


def test_halves_make_the_whole():
    whole, first, second = Gram(), Gram(), Gram()
    for index, x in enumerate(ITEMS):
        whole.update(x)
        (first, second)[index // 2].update(x)
    first.merge(second)
    np.testing.assert_allclose(first.value, whole.value, rtol=1e-6)
    restored = Gram()
    restored.restore(first.state)
    np.testing.assert_array_equal(restored.value, first.value)


def test_pairs():
    cross = CrossGram()
    for x in ITEMS:
        cross.update_pair(x, np.tanh(x))
    f, x = rows(ITEMS, -1), rows([np.tanh(x) for x in ITEMS], -1)
    np.testing.assert_allclose(cross.value, f.T @ x / len(x), rtol=1e-4, atol=1e-6)


def test_without_samples():
    with pytest.raises(ValidationError, match="before any sample"):
        _ = Gram().value
    empty = Gram()
    empty.update(np.zeros((0, 3), np.float32))
    assert not empty.state
