"""The digits network with four layers that 8 bits destroy."""

from __future__ import annotations

from pathlib import Path

from benchmarks.networks import fragile
from benchmarks.networks.fragile import feeds as feeds
from benchmarks.networks.fragile import hit as hit
from benchmarks.networks.fragile import items as items

TITLE = "Handwritten digits with four fragile layers"
METRIC = fragile.METRIC
TEXT = "The same, with such a layer in four places."


def prepare(folder: Path) -> None:
    """Train the network, put the layers into it, and write it and its data."""
    fragile.prepare(folder, "fragile_four", (5, 6, 9, 13))
