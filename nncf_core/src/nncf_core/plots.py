"""Plots in reports, by matplotlib, which is an optional dependency: ``pip install nncf-core[plots]``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from nncf_core.errors import InvalidPathError, ModuleNotFoundError
from nncf_core.files import replacing

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
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # without pyplot: no window system, no state shared with the user's own figures
    with mpl.rc_context({"svg.hashsalt": "nncf", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(9, 1.2 + _INCHES * max(len(labels), 1)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        colours = ["tab:red" if flag else "tab:blue" for flag in marked]
        axes.barh(range(len(labels)), values, color=colours)
        axes.set_yticks(range(len(labels)), labels, fontsize=7)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.axvline(0, color="black", linewidth=0.5)
        axes.set_xlabel(f"{axis} (red: {mark})" if any(marked) else axis)
        axes.set_title(title, fontsize=10)
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                figure.savefig(file, format="svg", metadata={"Date": None})
        except OSError as error:
            raise InvalidPathError(f"Cannot write {path}: {error.strerror or error}.") from None
