"""Plots in reports, by matplotlib, which is an optional dependency: ``pip install nncf-core[plots]``."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nncf_core.errors import ModuleNotFoundError
from nncf_core.files import replacing, unwritable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES = 0.22
"""Height of a bar."""


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def bar_chart(
    path: Path, labels: Sequence[str], values: Sequence[float], marked: Sequence[bool], title: str, axis: str, mark: str
) -> None:
    """Write horizontal bars as SVG, the first on top. The same data gives the same bytes.

    :param marked: bars in another colour.
    :param axis: what the values are.
    :param mark: what the other colour means.
    :raises ModuleNotFoundError: when matplotlib is not installed.
    :raises InvalidPathError: when the file cannot be written.
    """
    if not can_plot():
        raise ModuleNotFoundError("Plots need matplotlib; install it: pip install nncf-core[plots]")

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        colours = ["tab:red" if flag else "tab:blue" for flag in marked]
        axes.barh(range(len(labels)), values, color=colours)
        axes.set_yticks(range(len(labels)), labels, fontsize=7)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.axvline(0, color="black", linewidth=0.5)
        axes.set_xlabel(f"{axis} (red: {mark})" if any(marked) else axis)
        axes.set_title(title, fontsize=10)

    text = svg_of(draw, 9, 1.2 + _INCHES * max(len(labels), 1), {"Date": None})
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from None


def svg_of(draw: Callable[[Figure], None], width: float, height: float, metadata: Mapping[str, Any]) -> str:
    """What is drawn on a figure, as SVG; width and height are in inches. The same data gives the same text."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # without pyplot: no window system, no state shared with the user's own figures
    with mpl.rc_context({"svg.hashsalt": "nncf", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict(metadata))
    return text.getvalue()
