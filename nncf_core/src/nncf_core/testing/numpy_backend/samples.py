"""Small models of the toy framework, each with its weights and inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nncf_core.testing.cases import ModelCase
from nncf_core.testing.numpy_backend.model import Input, NumpyModel, Operation


def language_model(dtype: str = "float32") -> ModelCase:
    """Two blocks between an embedding and a head that is the same weight, with 64 channels."""
    random = np.random.default_rng(1)
    shapes = {"embedding": (96, 64), "block0.up": (64, 128), "block0.down": (128, 64), "block1.proj": (64, 64)}
    weights = _normal(random, shapes, dtype)
    bias = random.normal(0, 0.1, 128).astype(dtype)

    def make(weights: Mapping[str, np.ndarray]) -> NumpyModel:
        return NumpyModel(
            {"tokens": Input("int64", (None, None))},
            [
                Operation("embed", "Embedding", ("embedding", "tokens"), "x0"),
                Operation("block0/up", "MatMul", ("x0", "block0.up"), "x1"),
                Operation("block0/bias", "Add", ("x1", "block0.bias"), "x2"),
                Operation("block0/relu", "Relu", ("x2",), "x3"),
                Operation("block0/down", "MatMul", ("x3", "block0.down"), "x4"),
                Operation("block0/residual", "Add", ("x4", "x0"), "x5"),
                Operation("block1/proj", "MatMul", ("x5", "block1.proj"), "x6", transpose_b=True),
                Operation("head", "MatMul", ("x6", "embedding"), "logits", transpose_b=True),
            ],
            {**weights, "block0.bias": bias},
            ["logits"],
        )

    feeds = [{"tokens": random.integers(0, 96, (1, length))} for length in (5, 7, 3, 6)]
    return ModelCase(f"language_model_{dtype}", make, weights, feeds)


def perceptron() -> ModelCase:
    """Three layers on floating-point inputs, two of which share their input."""
    random = np.random.default_rng(2)
    weights = _normal(random, {"left": (32, 32), "right": (32, 32), "last": (32, 8)}, "float32")

    def make(weights: Mapping[str, np.ndarray]) -> NumpyModel:
        return NumpyModel(
            {"x": Input("float32", (None, 32))},
            [
                Operation("left/matmul", "MatMul", ("x", "left"), "a"),
                Operation("right/matmul", "MatMul", ("x", "right"), "b"),
                Operation("right/relu", "Relu", ("b",), "c"),
                Operation("sum", "Add", ("a", "c"), "d"),
                Operation("last/matmul", "MatMul", ("d", "last"), "y"),
            ],
            dict(weights),
            ["y"],
        )

    return ModelCase("perceptron", make, weights, _floats(random, (4, 32)))


def experts() -> ModelCase:
    """One weight of three independent matrices."""
    random = np.random.default_rng(3)
    weights = _normal(random, {"experts": (3, 32, 16), "gate": (16, 16)}, "float32")

    def make(weights: Mapping[str, np.ndarray]) -> NumpyModel:
        return NumpyModel(
            {"x": Input("float32", (3, None, 32))},
            [
                Operation("experts/matmul", "MatMul", ("x", "experts"), "a"),
                Operation("gate/matmul", "MatMul", ("a", "gate"), "y"),
            ],
            dict(weights),
            ["y"],
        )

    return ModelCase("experts", make, weights, _floats(random, (3, 2, 32)))


def without_weights() -> ModelCase:
    """Elementwise operators only, and a constant that is no weight."""
    random = np.random.default_rng(4)
    bias = np.linspace(-1, 1, 16, dtype=np.float32)

    def make(weights: Mapping[str, np.ndarray]) -> NumpyModel:
        return NumpyModel(
            {"x": Input("float32", (None, 16))},
            [Operation("add", "Add", ("x", "bias"), "a"), Operation("relu", "Relu", ("a",), "y")],
            {"bias": bias},
            ["y"],
        )

    return ModelCase("without_weights", make, {}, _floats(random, (2, 16)))


def all_samples() -> tuple[ModelCase, ...]:
    """Every sample."""
    return (language_model(), language_model("float16"), perceptron(), experts(), without_weights())


def _normal(random: np.random.Generator, shapes: Mapping[str, Sequence[int]], dtype: str) -> dict[str, np.ndarray]:
    return {name: random.normal(0, 0.3, shape).astype(dtype) for name, shape in shapes.items()}


def _floats(random: np.random.Generator, shape: Sequence[int]) -> list[dict[str, np.ndarray]]:
    return [{"x": random.normal(0, 1, shape).astype(np.float32)} for _ in range(4)]
