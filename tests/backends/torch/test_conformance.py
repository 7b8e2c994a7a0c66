"""The PyTorch backend does all that the kit expects of a backend."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from attrs import evolve
from torch import nn

from nncf_core.testing import BackendConformance, ModelCase
from nncf_core.testing.backends.collecting import CollectingTests
from nncf_core.testing.backends.compressing import CompressingTests
from nncf_core.testing.backends.editing import EditingTests
from nncf_core.testing.backends.extracting import ExtractingTests
from nncf_core.testing.backends.quantizing import QuantizingTests
from nncf_core.testing.backends.reading import ReadingTests
from nncf_core.testing.backends.training import TrainingTests


class LanguageModel(nn.Module):
    """Embedding and head share a weight; a matrix product with a parameter of its own, and one in two steps."""

    def __init__(self, weights: Mapping[str, np.ndarray], bias: np.ndarray) -> None:
        super().__init__()
        table = nn.Parameter(torch.from_numpy(weights["embedding.weight"]))
        rows, width = table.shape
        self.embedding = nn.Embedding(rows, width)
        self.down = nn.Linear(128, width)
        self.head = nn.Linear(width, rows, bias=False)
        self.up = nn.Parameter(torch.from_numpy(weights["up"]))
        self.embedding.weight = self.head.weight = table
        self.down.weight = nn.Parameter(torch.from_numpy(weights["down.weight"]))
        self.down.bias = nn.Parameter(torch.from_numpy(bias))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.embedding(tokens) @ self.up)
        return self.head(self.down(x))


def language_model(dtype: str) -> ModelCase:
    random = np.random.default_rng(1)
    shapes = {"embedding.weight": (96, 64), "up": (64, 128), "down.weight": (64, 128)}
    weights = {name: random.normal(0, 0.2, shape).astype(dtype) for name, shape in shapes.items()}
    bias = random.normal(0, 0.1, 64).astype(dtype)
    feeds = [{"tokens": random.integers(0, 96, length)} for length in (5, 7, 3, 6)]

    def make(weights: Mapping[str, np.ndarray]) -> nn.Module:
        return LanguageModel(weights, bias).eval()

    return ModelCase(f"language_model_{dtype}", make, weights, feeds)


def convolution() -> ModelCase:
    """A convolution, a normalization whose statistics are buffers, and a product in four dimensions."""
    random = np.random.default_rng(2)
    weights = {
        "conv.weight": random.normal(0, 0.2, (32, 3, 3, 3)).astype(np.float32),
        "last.weight": random.normal(0, 0.2, (8, 32)).astype(np.float32),
    }

    class Net(nn.Module):
        def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 32, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(32)
            self.last = nn.Linear(32, 8, bias=False)
            self.conv.weight = nn.Parameter(torch.from_numpy(weights["conv.weight"]))
            self.last.weight = nn.Parameter(torch.from_numpy(weights["last.weight"]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.relu(self.norm(self.conv(x))).permute(0, 2, 3, 1))

    def make(weights: Mapping[str, np.ndarray]) -> nn.Module:
        return Net(weights).eval()

    feeds = [{"x": random.normal(0, 1, (2, 3, 6, 6)).astype(np.float32)} for _ in range(4)]
    return ModelCase("convolution", make, weights, feeds)


def layers() -> ModelCase:
    """Modules whose points are all at their boundaries; one weight is shared by two of them."""
    random = np.random.default_rng(3)
    shapes = {"embedding.weight": (96, 64), "up.weight": (128, 64), "down.weight": (64, 128)}
    weights = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}

    class Net(nn.Module):
        def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(96, 64), nn.Linear(64, 96, bias=False)
            self.up, self.down = nn.Linear(64, 128, bias=False), nn.Linear(128, 64)
            nn.init.zeros_(self.down.bias)
            self.embedding.weight = self.head.weight = nn.Parameter(torch.from_numpy(weights["embedding.weight"]))
            self.up.weight = nn.Parameter(torch.from_numpy(weights["up.weight"]))
            self.down.weight = nn.Parameter(torch.from_numpy(weights["down.weight"]))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.embedding(tokens)
            return self.head(self.down(torch.relu(self.up(x))) + x)

    feeds = [{"tokens": random.integers(0, 96, (2, length))} for length in (5, 7, 3, 6)]
    return ModelCase("layers", lambda weights: Net(weights).eval(), weights, feeds)


def as_program(case: ModelCase) -> ModelCase:
    """The same model as an exported program; it is traced once, and filled with the weights."""
    feed = {name: torch.from_numpy(array) for name, array in case.feeds[0].items()}
    shapes = {name: dict.fromkeys(range(tensor.dim()), torch.export.Dim.AUTO) for name, tensor in feed.items()}
    traced = torch.export.export(case.model(), (), feed, dynamic_shapes=shapes)

    def make(weights: Mapping[str, np.ndarray]) -> torch.export.ExportedProgram:
        program = copy.deepcopy(traced)
        values = case.make(weights).state_dict(keep_vars=True)
        program.state_dict.update({name: values[name] for name in program.state_dict})
        return program

    return ModelCase(f"{case.name}_program", make, case.weights, case.feeds)


PROGRAMS = [as_program(language_model("float32")), as_program(language_model("float16")), as_program(convolution())]


class TestPrograms(BackendConformance):
    framework = "torch"
    framework_modules = ("torch",)

    def cases(self):
        return PROGRAMS


class ModuleConformance(
    ReadingTests, CompressingTests, EditingTests, QuantizingTests, TrainingTests, ExtractingTests, CollectingTests
):
    """All but files: modules are saved as state_dict and config."""

    framework = "torch"
    framework_modules = ("torch",)


def traced_by(trace: str, *cases: ModelCase) -> list[ModelCase]:
    return [evolve(case, options={"trace": trace, "example_input": case.feeds[0]}) for case in cases]


@pytest.mark.slow
class TestModulesByExport(ModuleConformance):
    def cases(self):
        return traced_by("export", layers())


class TestModulesByHooks(ModuleConformance):
    def cases(self):
        return traced_by("hooks", layers(), convolution())


class TestModulesByStructure(ReadingTests, CompressingTests, TrainingTests):
    """Of a model that was not run only weights are known."""

    framework = "torch"
    framework_modules = ("torch",)

    def cases(self):
        return [layers(), convolution()]
