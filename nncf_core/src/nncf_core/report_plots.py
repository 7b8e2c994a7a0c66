"""The plots of a report's page, as SVG text, by matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nncf_core.damage import BINS, Damage
from nncf_core.plan import PlanEntry
from nncf_core.plots import svg_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 40
"""Bars of a chart."""


def sizes_by_layer(entries: Sequence[PlanEntry]) -> str:
    """Bytes of each compressed weight before and after, the largest first."""
    largest = sorted(entries, key=lambda entry: -entry.bytes_before)[:MOST]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        rows = range(len(largest))
        axes.barh(rows, [entry.bytes_before / 1e6 for entry in largest], color="#d0d7de", label="before")
        axes.barh(rows, [entry.bytes_after / 1e6 for entry in largest], color="#0969da", label="after", height=0.5)
        axes.set_yticks(rows, [_short(entry.target) for entry in largest], fontsize=7)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.set_xlabel("MB")
        axes.legend(loc="lower right", frameon=False)

    return _svg(draw, 9, 0.8 + 0.2 * len(largest))


def ratios_in_order(damages: Sequence[Damage], formats: Sequence[str]) -> str:
    """Signal-to-noise ratio of each weight in the order of the graph, a colour for each format."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for name in dict.fromkeys(formats):
            chosen = [index for index, known in enumerate(formats) if known == name]
            shown = [min(damages[index].snr, 120.0) for index in chosen]
            axes.plot(chosen, shown, "o", markersize=4, label=name)
        axes.set_xlabel("weights, in the order of the graph")
        axes.set_ylabel("signal-to-noise ratio, dB")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=6)

    return _svg(draw, 9, 3.2)


def histogram_of(damage: Damage) -> str:
    """Values of a weight before and after, on a logarithmic axis, since outliers are few."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        edges = np.linspace(damage.low, damage.high, BINS + 1) if damage.low < damage.high else np.arange(BINS + 1)
        axes.stairs(damage.before, edges, fill=True, color="#d0d7de", label="before")
        axes.stairs(damage.after, edges, color="#cf222e", linewidth=1, label="after")
        axes.set_yscale("log")
        axes.set_title(_short(damage.target), fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(frameon=False, fontsize=7)

    return _svg(draw, 4.3, 2.2)


def _short(name: str) -> str:
    """Both ends of a long name: where it is, and what."""
    return name if len(name) <= 50 else f"{name[:27]}…{name[-22:]}"


def _svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    text = svg_of(draw, width, height, {"Date": None, "Creator": None})
    # what stands before the element is for files of their own
    return text[text.index("<svg") :]
