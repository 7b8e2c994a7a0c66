"""all-MiniLM-L6-v2: a paragraph's second half is to be found by its first one among those of all paragraphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.networks import Data, Feed, Run

TITLE = "Sentence embeddings (all-MiniLM-L6-v2, 90 MB)"
METRIC = "MRR"
TEXT = (
    "Mean reciprocal rank of the second half of each of 500 paragraphs of documentation, looked for by its first half; "
    "calibrated on 300 of the first halves, of 64 tokens each."
)

CALIBRATION = 300


def prepare(folder: Path) -> None:
    """Write the network and its data."""
    from benchmarks.networks import minilm

    minilm.prepare(folder)


def feeds(data: Data) -> tuple[list[Feed], Feed]:
    """One paragraph each."""
    items = [_feed(data, "first", slice(index, index + 1)) for index in range(CALIBRATION)]
    return items, items[0]


def score(run: Run, data: Data) -> float:
    """Mean reciprocal rank."""
    return float(scores(run, data).mean())


def scores(run: Run, data: Data) -> np.ndarray:
    """The reciprocal rank of each paragraph."""
    first, second = vectors(run, data)
    similarities = first @ second.T
    return 1 / (similarities >= np.diag(similarities)[:, None]).sum(axis=1)


def vectors(run: Run, data: Data) -> list[np.ndarray]:
    """Embeddings of the first and of the second halves, of length 1."""
    sides = []
    for side in ("first", "second"):
        starts = range(0, len(data["first_ids"]), 16)
        found = np.concatenate([run(_feed(data, side, slice(start, start + 16)))[0] for start in starts])
        sides.append(found / np.linalg.norm(found, axis=1, keepdims=True))
    return sides


def _feed(data: Data, side: str, chosen: slice) -> Feed:
    return {"ids": data[f"{side}_ids"][chosen], "mask": data[f"{side}_mask"][chosen]}
