"""Networks of PyTorch for the examples: the demo's transformer, one of convolutions that reads digits, and SmolLM2."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import onnx
import torch
from models.make_digits_transformer import DigitsTransformer
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from examples.measuring import Row, distance, latencies, table
from examples.subjects import ROOT, digits_split

# small tensors are faster without threads
torch.set_num_threads(1)


class Digits:
    """Images as tokens [n, 64] and labels; ``image`` makes [n, 1, 8, 8] from 0 to 1 of tokens."""

    def __init__(self) -> None:
        arrays = (torch.from_numpy(array) for array in digits_split())
        self.train, held_out, self.train_labels, labels = arrays
        self.test, self.test_labels = held_out[:270], labels[:270]

    @staticmethod
    def image(tokens: Tensor) -> Tensor:
        return tokens.float().reshape(-1, 1, 8, 8) / 16

    def accuracy(self, model: nn.Module, *, images: bool = False) -> float:
        """Share of the held-out images whose digit is recognised."""
        with torch.no_grad():
            scores = model(self.image(self.test) if images else self.test)
        return float((scores.argmax(1) == self.test_labels).float().mean())

    def batches(self, size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
        """Training images and labels of an epoch, in a random order."""
        for chosen in torch.randperm(len(self.train)).split(size):
            yield self.image(self.train[chosen]), self.train_labels[chosen]


def transformer() -> nn.Module:
    """The demo's trained transformer, with the weights of the repository's ONNX file."""
    graph = onnx.load(ROOT / "models" / "digits_transformer.onnx").graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    model = DigitsTransformer()
    state = {name: torch.from_numpy(arrays[name].copy()) for name in model.state_dict() if name in arrays}
    # the exporter has named the transposed matrices anew; they are used in the order in which layers run
    matrices = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in arrays]
    missing = [name for name in model.state_dict() if name not in arrays]
    for name, matrix in zip(missing, matrices, strict=True):
        state[name] = torch.from_numpy(arrays[matrix].T.copy())
    model.load_state_dict(state)
    return model.eval()


class Convolutions(nn.Module):
    """Two blocks of convolutions with a residual sum, and a head."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.last = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.head = nn.Linear(width * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 1, 8, 8] to scores [n, 10]."""
        x = functional.max_pool2d(self.stem(x), 2)
        x = functional.relu(x + self.block(x))
        return self.head(functional.relu(self.last(x)).flatten(1))


def convolutions(data: Digits, epochs: int) -> nn.Module:
    """A network of convolutions, trained from the same seed each time."""
    torch.manual_seed(0)
    model = Convolutions()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(epochs):
        for images, labels in data.batches():
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model.eval()


class Subject(NamedTuple):
    """A network with data.

    :param items: inputs to calibrate with.
    :param inputs: other inputs, all at once, that outputs are compared on.
    :param score: the metric of a module.
    """

    metric: str
    model: nn.Module
    items: list[Tensor]
    inputs: Tensor
    score: Callable[[nn.Module], float]


def subject(name: str) -> Subject:
    """The demo's transformer (``digits``) or SmolLM2-135M (``language``).

    :raises SystemExit: when the package that brings it is missing; it says what to install.
    """
    if name == "language":
        return _language()
    data = Digits()
    return Subject("accuracy", transformer(), items(data, 32), data.test[:32], data.accuracy)


def _language() -> Subject:
    from benchmarks import llama
    from benchmarks.compressing.subjects import SUBJECTS, text_windows

    from examples.tune_lora_torch import perplexity

    torch.set_num_threads(os.cpu_count() or 1)
    language = SUBJECTS["language"]
    llama.CACHE.mkdir(parents=True, exist_ok=True)
    language.prepare(llama.CACHE)
    _, windows = (torch.from_numpy(tokens) for tokens in text_windows(llama.CACHE, 12))
    calibration = [torch.from_numpy(item["tokens"]) for item in language.items(llama.CACHE, 32)]
    model = llama.load(llama.weights())
    return Subject("perplexity", model, calibration, windows[:1, :64], lambda tried: perplexity(tried, windows))


def compared(models: Mapping[str, nn.Module], subject: Subject) -> dict[str, Row]:
    """Measure modules, the float one first, print a table, and return what is in it."""
    with torch.no_grad():
        outputs = [[model(subject.inputs).numpy()] for model in models.values()]
        times = latencies([lambda model=model: model(subject.inputs[:1]) for model in models.values()])
    rows = {
        label: Row(stored_megabytes(model), subject.score(model), distance(found, outputs[0]), taken)
        for (label, model), found, taken in zip(models.items(), outputs, times, strict=True)
    }
    table(subject.metric, rows)
    return rows


def stored_megabytes(model: nn.Module) -> float:
    """Size of the file of a module's ``state_dict``."""
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    return stream.tell() / 1e6


def pictures(data: Digits, model: nn.Module) -> Subject:
    """A network that takes images."""
    inputs = data.image(data.test[:32])
    return Subject("accuracy", model, items(data, 64, images=True), inputs, lambda m: data.accuracy(m, images=True))


def items(data: Digits, count: int, *, images: bool = False) -> list[Tensor]:
    """Single training images, to calibrate with."""
    return [data.image(one) if images else one for one in data.train[:count].split(1)]
