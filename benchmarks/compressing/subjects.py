"""The networks: files, calibration data that the score does not see, and the score.

Each has ``title``, ``metric``, ``text`` (what is measured), ``arguments`` of ``nncf.compress_weights``, ``methods``
that are measured by default, and functions of the folder of files.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from benchmarks.compressing import METHODS
from benchmarks.networks import Feed, Run

LENGTH, WINDOW = 256, 512
TOKENS = "data_aware_tokens.npz"


class Subject(NamedTuple):
    """A network.

    :param units: what the parts of the metric are.
    :param higher: whether a higher score is better.
    :param prepare: writes the files, unless they are there; returns the OpenVINO IR.
    :param items: inputs to calibrate with: at most as many as wished for.
    :param parts: of the metric of a model that ``run`` runs: a number for each line, paragraph or window of text; the
        last argument is the number of windows.
    :param whole: the metric, of the mean of the parts.
    :param distances: where the metric cannot tell methods apart: how far each of a model's outputs is from that of
        another, the float model.
    """

    title: str
    metric: str
    units: str
    higher: bool
    text: str
    arguments: Mapping[str, Any]
    methods: tuple[str, ...]
    prepare: Callable[[Path], Path]
    items: Callable[[Path, int], list[Feed]]
    parts: Callable[[Run, Path, int], np.ndarray]
    whole: Callable[[float], float] = float
    distances: Callable[[Run, Run, Path], np.ndarray] | None = None

    def score(self, parts: Sequence[float]) -> float:
        """The metric."""
        return self.whole(fmean(parts))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _spread(tokens: np.ndarray, length: int, count: int) -> np.ndarray:
    """Windows [count, length] that lie evenly in a text and do not overlap.

    :raises SystemExit: when the text is too short.
    """
    if count * length > len(tokens):
        raise SystemExit(f"The text has {len(tokens)} tokens, too few for {count} windows of {length}.")
    starts = np.linspace(0, len(tokens) - length, count).astype(int)
    return np.stack([tokens[start : start + length] for start in starts])


def _prepare_language(folder: Path) -> Path:
    from benchmarks import llama
    from benchmarks.smollm2 import gguf_path, reader, tokenizer

    if not (folder / TOKENS).is_file():
        encode = tokenizer(reader(gguf_path())).encode
        calibration, evaluation = (np.array(encode(text).ids, np.int64) for text in _texts())
        np.savez(folder / TOKENS, calibration=calibration, evaluation=evaluation)
    return llama.openvino_ir(folder)


def _texts() -> tuple[str, str]:
    """Python's interactive help: every fourth topic, and what the others say in paragraphs of their own.

    Topics quote each other, so that a paragraph that is in the first text is left out of the second.
    """
    from pydoc_data import topics

    texts = [topics.topics[name].split("\n\n") for name in sorted(topics.topics)]
    first = [paragraph for text in texts[::4] for paragraph in text]
    seen = {" ".join(paragraph.split()) for paragraph in first}
    others = [text for index, text in enumerate(texts) if index % 4]
    second = [paragraph for text in others for paragraph in text if " ".join(paragraph.split()) not in seen]
    return "\n\n".join(first), "\n\n".join(second)


def _windows(folder: Path, count: int) -> list[Feed]:
    return [{"tokens": window[None]} for window in _spread(_arrays(folder / TOKENS)["calibration"], LENGTH, count)]


def text_windows(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """All of the text that calibrates in windows [number, 256], and what perplexity is measured on, [count, 512]."""
    tokens = _arrays(folder / TOKENS)
    first = tokens["calibration"]
    return first[: len(first) // LENGTH * LENGTH].reshape(-1, LENGTH), _spread(tokens["evaluation"], WINDOW, count)


def _likelihoods(run: Run, folder: Path, windows: int) -> np.ndarray:
    """Mean negative log-likelihood of each window's tokens but the first."""
    found = []
    for window in _spread(_arrays(folder / TOKENS)["evaluation"], WINDOW, windows):
        logits, total = run({"tokens": window[None]})[0][0, :-1], 0.0
        # token by token, so that a row of the vocabulary stays in cache
        for row, token in zip(logits, window[1:], strict=True):
            row -= row.max()
            total += float(np.log(np.exp(row).sum(dtype=np.float64)) - row[token])
        found.append(total / (WINDOW - 1))
    return np.array(found)


def _ir(name: str, folder: Path) -> Path:
    """The IR of one of the networks that quantization is measured on."""
    networks = folder / "networks"
    path = networks / f"{name}.xml"
    if not path.exists():
        import openvino

        networks.mkdir(parents=True, exist_ok=True)
        importlib.import_module(f"benchmarks.networks.{name}").prepare(networks)
        openvino.save_model(openvino.convert_model(networks / f"{name}.onnx"), path, compress_to_fp16=False)
    return path


HELD_OUT = 150


def _paragraphs(folder: Path, count: int) -> list[Feed]:
    data = _arrays(folder / "networks" / "embedding.npz")
    return [
        {"ids": data["first_ids"][index : index + 1], "mask": data["first_mask"][index : index + 1]}
        for index in range(min(count, HELD_OUT))
    ]


def _reciprocal_ranks(run: Run, folder: Path, _: int) -> np.ndarray:
    from benchmarks.networks import embedding

    data = _arrays(folder / "networks" / "embedding.npz")
    return embedding.scores(run, {name: array[HELD_OUT:] for name, array in data.items()})


def _embedding_distances(run: Run, exact: Run, folder: Path) -> np.ndarray:
    """1 - the cosine of each embedding of held-out paragraphs, both halves, and the float model's."""
    from benchmarks.networks import embedding

    data = {name: array[HELD_OUT:] for name, array in _arrays(folder / "networks" / "embedding.npz").items()}
    pairs = zip(embedding.vectors(run, data), embedding.vectors(exact, data), strict=True)
    return np.concatenate([1 - np.einsum("ij,ij->i", found, wanted, dtype=np.float64) for found, wanted in pairs])


def _lines(folder: Path, count: int) -> list[Feed]:
    from benchmarks.networks import recognition

    return recognition.feeds(_arrays(folder / "networks" / "recognition.npz"))[0][:count]


def _lines_read(run: Run, folder: Path, _: int) -> np.ndarray:
    from benchmarks.networks import recognition

    return recognition.scores(run, _arrays(folder / "networks" / "recognition.npz"))


SUBJECTS = {
    "language": Subject(
        "SmolLM2-135M",
        "perplexity",
        "windows",
        False,
        "INT4_ASYM in groups of 64, embeddings and head INT8_ASYM, unless said otherwise. Perplexity on text that was "
        "not calibrated on: of the topics of Python's interactive help every fourth one, in alphabetical order, "
        "calibrates; the others measure, without the paragraphs that occur in the first.",
        {"mode": "int4_asym", "group_size": 64, "ratio": 1.0},
        tuple(METHODS),
        _prepare_language,
        _windows,
        _likelihoods,
        math.exp,
    ),
    "embedding": Subject(
        "Sentence embeddings (all-MiniLM-L6-v2)",
        "MRR",
        "paragraphs",
        True,
        "INT4_ASYM in groups of 64, embeddings and last layer INT8_ASYM. Mean reciprocal rank of the second half of "
        f"each of {500 - HELD_OUT} paragraphs, looked for by its first half; calibrated on other paragraphs. It hardly "
        "tells methods apart; how far embeddings are from the float model's does: 1 - their mean cosine.",
        {"mode": "int4_asym", "group_size": 64, "ratio": 1.0},
        ("rtn", "awq", "scale_estimation", "gptq", "max"),
        lambda folder: _ir("embedding", folder),
        _paragraphs,
        _reciprocal_ranks,
        distances=_embedding_distances,
    ),
    "recognition": Subject(
        "Text recognition (PP-OCRv4, convolutions and attention)",
        "accuracy",
        "lines",
        True,
        "INT4_ASYM for each channel of the products, the rest INT8_ASYM. Share of 1200 noisy lines that are read "
        "without an error; calibrated on others.",
        {"mode": "int4_asym", "group_size": -1, "ratio": 1.0},
        ("int8_asym", "rtn", "scale_estimation", "gptq", "max"),
        lambda folder: _ir("recognition", folder),
        _lines,
        _lines_read,
    ),
}


def arguments_of(subject: str, method: str) -> dict[str, Any]:
    """Arguments of ``nncf.compress_weights``, as plain data; INT8 modes have neither groups nor a ratio."""
    merged = {**SUBJECTS[subject].arguments, **METHODS[method].arguments}
    eight = str(merged["mode"]).startswith("int8")
    return {name: value for name, value in merged.items() if not (eight and name in ("group_size", "ratio"))}
