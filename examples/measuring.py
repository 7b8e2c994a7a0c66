"""Sizes, times and a table, for all examples."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np


class Row(NamedTuple):
    """What is known of a model.

    :param error: distance of its outputs from the float model's, relative to their length.
    """

    megabytes: float
    score: float
    error: float
    milliseconds: float


def arguments(text: str | None, **real: str) -> argparse.ArgumentParser:
    """What every example takes.

    :param text: what the example does.
    :param real: networks that it knows besides the repository's own, with what they are; the first is the default.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    if real:
        shown = "; ".join(f"{name}: {what}" for name, what in real.items())
        names = [*real, "digits"]
        parser.add_argument("--model", choices=names, default=names[0], help=f"{shown}; digits: the repository's own")
    parser.add_argument("--small", action="store_true", help="the repository's own network: done in seconds")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder of the compressed models")
    return parser


def parsed(parser: argparse.ArgumentParser, given: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; the output folder is there from now on."""
    options = parser.parse_args(given)
    if options.small:
        options.model = "digits"
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def megabytes(path: Path) -> float:
    """Size of a model's file; of OpenVINO's with that of its weights."""
    beside = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    return sum(each.stat().st_size for each in (path, *beside)) / 1e6


def latencies(runs: Sequence[Callable[[], Any]], count: int = 30) -> list[float]:
    """Median milliseconds of each; they take turns, so that all see the same machine."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(count + 3):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if turn >= 3:
                taken.append(1e3 * (time.perf_counter() - start))
    return [median(taken) for taken in times]


def distance(found: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    """Length of the differences of arrays, relative to that of the exact ones."""
    differences = [(a - b).ravel() for a, b in zip(found, exact, strict=True)]
    return float(
        np.linalg.norm(np.concatenate(differences)) / np.linalg.norm(np.concatenate([b.ravel() for b in exact]))
    )


def table(metric: str, rows: Mapping[str, Row]) -> None:
    """Print what is known of models."""
    width = max(map(len, rows)) + 2
    print(f"{'':<{width}}{'MB':>9}{metric:>12}{'error':>9}{'ms':>9}")
    for label, row in rows.items():
        print(f"{label:<{width}}{row.megabytes:>9.3f}{row.score:>12.4f}{row.error:>9.4f}{row.milliseconds:>9.3f}")
