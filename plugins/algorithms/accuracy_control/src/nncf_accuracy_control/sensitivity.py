"""The sensitivity report: which quantizers cost how much, as a table, a JSON file and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from nncf_accuracy_control.ranking import Ranked
from nncf_core.errors import InvalidPathError
from nncf_core.files import aside, replacing
from nncf_core.log import nncf_logger
from nncf_core.plan import entry_for
from nncf_core.plots import bar_chart, can_plot
from nncf_core.trials import Trials

_VERSION = 1
_FILES = ("sensitivity.json", "sensitivity.svg")
_SHOWN = 20
"""Rows of the table in the log."""
_BARS = 60
"""Bars of the plot."""
_WIDTH = 60
"""Characters of a name that the table and the plot show."""


@frozen
class Summary:
    """What a run found, in figures.

    :param measure: what groups are ranked by.
    :param items: how many items of the validation dataset that was taken on.
    :param original: metric of the original model.
    :param quantized: of the one with all edits.
    :param result: of the one that was chosen.
    :param drop: how much that is less than ``original``, as ``drop_type`` says.
    :param validations: calls of the validation function with all items.
    :param partial_validations: calls with some of them.
    :param quantizers: number of quantizers, of activations and of weights, of the one with all edits.
    :param kept: of these in the one that was chosen.
    """

    measure: str
    items: int
    original: float
    quantized: float
    result: float
    drop: float
    validations: int
    partial_validations: int
    quantizers: int
    kept: int


def rows(trials: Trials, order: Sequence[Ranked], reverted: frozenset[int]) -> list[dict[str, Any]]:
    """A row for each group, those first that cost most; plain data.

    :param reverted: indices of the groups that the chosen model lacks.
    """
    edits, graph, known = trials.edits, trials.graph, trials.known_nodes()
    return [
        {
            "rank": rank,
            "cost": each.cost,
            "reverted": each.index in reverted,
            "quantizers": [entry_for("", edits[index], graph).target for index in each.group.quantizers],
            "weights": [entry_for("", edits[index], graph).target for index in each.group.weights],
            # what leaves this group out of a run without accuracy control
            "ignored_scope": {"names": [name for name in each.group.nodes if name in known]},
        }
        for rank, each in enumerate(order, 1)
    ]


def table(found: Sequence[dict[str, Any]], summary: Summary) -> str:
    """The first rows for people."""
    lines = [f"Cost ({summary.measure})  Quantizers  Operators"]
    for row in found[:_SHOWN]:
        count = len(row["quantizers"]) + len(row["weights"])
        mark = " (reverted)" if row["reverted"] else ""
        lines.append(f"{row['cost']:<{len(summary.measure) + 8}.3g}  {count:<10}  {_label(row)}{mark}")
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} groups that cost less")
    return "\n".join(lines)


def check(folder: Path) -> None:
    """Whether a report can be written to a folder, which is made when it does not exist.

    :raises InvalidPathError: when it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            with aside(folder / name):
                pass
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> InvalidPathError:
    return InvalidPathError(
        f"Cannot write the sensitivity report to {folder}: {error.strerror or error}. Give a folder that can be "
        "written to."
    )


def write(folder: Path, found: Sequence[dict[str, Any]], summary: Summary) -> None:
    """Write ``sensitivity.json``, and ``sensitivity.svg`` where matplotlib is installed.

    :raises InvalidPathError: when the folder cannot be written to.
    """
    text = json.dumps({"version": _VERSION, **asdict(summary), "groups": list(found)}, indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / _FILES[0]) as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise _unwritable(folder, error) from None
    if not can_plot():
        nncf_logger.warning("The sensitivity report has no plot: install matplotlib, pip install nncf-core[plots].")
        return
    bars = found[:_BARS]
    bar_chart(
        folder / _FILES[1],
        [_label(row) for row in bars],
        [row["cost"] for row in bars],
        [row["reverted"] for row in bars],
        f"What quantizers cost: {len(bars)} of {len(found)} groups",
        f"{summary.measure} regained without them, on {summary.items} items",
        "left in floating point",
    )


def _label(row: dict[str, Any]) -> str:
    names: list[str] = row["ignored_scope"]["names"] or row["quantizers"] or row["weights"]
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    name = names[0] if len(names[0]) <= _WIDTH else "…" + names[0][1 - _WIDTH :]
    return name + more
