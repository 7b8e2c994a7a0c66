"""A run's report as one HTML page that needs nothing else, and as JSON with the same content."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from nncf_core.damage import Damage
from nncf_core.files import write_text
from nncf_core.log import nncf_logger
from nncf_core.observing import Range
from nncf_core.report import Report

_WORST = 9
"""Weights whose values are shown."""

_LONG = 24
"""Characters that always fit into a cell."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #d0d7de }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; max-height: 32rem }
th, td { text-align: left; padding: .2rem .7rem; border-bottom: 1px solid #eaeef2; white-space: nowrap }
th { position: sticky; top: 0; background: #fff } td { max-width: 17rem; overflow: hidden; text-overflow: ellipsis }
td:last-child { max-width: 44rem; white-space: normal }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem } .tile b { display: block; font-size: 1.3rem }
.tile { background: #f6f8fa; padding: .7rem 1.1rem; border-radius: 6px }
.plots { display: flex; flex-wrap: wrap } svg { max-width: 100%; height: auto }
pre { background: #f6f8fa; padding: 1rem; overflow-x: auto; font-size: 13px } code { font-size: 13px }
"""


@frozen
class Table:
    """A section of a page that only some runs have, such as which quantizers cost how much.

    :param rows: texts and numbers, one for each name of a column.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int | float, ...]]

    def section(self) -> str:
        """The section."""
        numbers = [
            index
            for index in range(len(self.columns))
            if any(isinstance(row[index], (int, float)) for row in self.rows)
        ]
        shown = ((cell if isinstance(cell, str) else f"{cell:,.6g}" for cell in row) for row in self.rows)
        return _section(self.title, _table(self.columns, shown, numbers))


@frozen
class Account:
    """All that a run's page tells.

    :param title: what was compressed.
    :param report: what was done.
    :param damages: what that did to weights, in graph order.
    :param config: the config that does it again.
    :param seconds: how long steps took, by their names.
    :param versions: versions of packages by their names.
    :param command: what runs the config.
    :param ranges: of quantizers of activations, in graph order.
    :param tables: sections besides.
    """

    title: str
    report: Report
    damages: Sequence[Damage]
    config: Mapping[str, Any]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    command: str = "nncf run config.json MODEL -o OUTPUT"
    ranges: Sequence[Range] = ()
    tables: Sequence[Table] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; a ratio that is infinite is ``None``."""
        damages = [{**asdict(each), "snr": each.snr if math.isfinite(each.snr) else None} for each in self.damages]
        return {
            "title": self.title,
            **self.report.to_json(),
            "entries": [asdict(entry) for entry in self.report.entries],
            "damages": damages,
            "config": dict(self.config),
            "seconds": dict(self.seconds),
            "versions": dict(self.versions),
            "command": self.command,
            "ranges": [asdict(each) for each in self.ranges],
            "tables": [asdict(table) for table in self.tables],
        }

    def text(self, suffix: str) -> str:
        """The page, or JSON where the suffix is ``.json``. Plots need matplotlib (``nncf-core[plots]``)."""
        return json.dumps(self.to_json(), indent=1) if suffix.lower() == ".json" else self.page()

    def write(self, path: Path) -> None:
        """Write the page, or JSON where the path ends so.

        :raises InvalidPathError: when the file cannot be written.
        """
        write_text(path, self.text(path.suffix))

    def page(self) -> str:
        """The page."""
        report = self.report
        parts = [
            f"<h1>{escape(self.title)}</h1>",
            _tiles(
                {
                    "weights before": f"{report.bytes_before / 1e6:,.2f} MB",
                    "weights after": f"{report.bytes_after / 1e6:,.2f} MB",
                    "times smaller": f"{report.bytes_before / max(report.bytes_after, 1):.2f}",
                    "bits per weight": f"{report.bits_per_weight:.2f}",
                }
            ),
            *([_section("What was chosen, and why", _list(report.notes))] if report.notes else []),
            _section("Formats", _formats(report)),
            *self._plots(),
            *(table.section() for table in (*self.tables, *self._range_tables())),
            _section("What was done", _entries(self)),
            _section("Time", _table(("step", "seconds"), self._times(), (1,))),
            _section(
                "To do it again",
                f"<p><code>{escape(self.command)}</code> with this config:</p>"
                f"<pre>{escape(json.dumps(dict(self.config), indent=2))}</pre>",
            ),
            _section("Versions", _table(("package", "version"), self.versions.items(), ())),
        ]
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title><style>{_STYLE}</style>'
        body = "\n".join(parts)
        return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'

    def _times(self) -> Iterable[tuple[str, str]]:
        yield from ((name, f"{seconds:.2f}") for name, seconds in self.seconds.items())
        yield "all", f"{sum(self.seconds.values()):.2f}"

    def _range_tables(self) -> Iterable[Table]:
        if self.ranges:
            rows = [(each.target, each.format, each.channels, each.low, each.high) for each in self.ranges]
            yield Table("Ranges of activations", ("where", "format", "ranges", "lowest", "highest"), rows)

    def _plots(self) -> Iterable[str]:
        compressed = [entry for entry in self.report.entries if entry.action == "compress"]
        if not compressed:
            return
        if importlib.util.find_spec("matplotlib") is None:
            nncf_logger.warning("The report has no plots: install matplotlib, pip install nncf-core[plots].")
            return
        from nncf_core import report_plots

        most = report_plots.MOST
        text = f"<p>The {most} largest of {len(compressed)}.</p>" if len(compressed) > most else ""
        yield _section("Size by weight", text + report_plots.sizes_by_layer(compressed))
        formats = {entry.target: entry.format for entry in compressed}
        shown = [damage for damage in self.damages if damage.target in formats]
        if shown:
            text = "<p>How much larger a weight is than what rounding changes in it; 6 dB are a bit.</p>"
            plot = report_plots.ratios_in_order(shown, [formats[damage.target] for damage in shown])
            yield _section("Error by weight", text + plot)
            worst = sorted(shown, key=lambda damage: (damage.snr, damage.target))[:_WORST]
            plots = "".join(report_plots.histogram_of(damage) for damage in worst)
            yield _section("Values of the weights that lose most", f'<div class="plots">{plots}</div>')


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}"


def _tiles(values: Mapping[str, str]) -> str:
    tiles = (f'<div class="tile"><b>{escape(value)}</b>{escape(name)}</div>' for name, value in values.items())
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _list(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def _table(header: Sequence[str], rows: Iterable[Iterable[str]], numbers: Sequence[int]) -> str:
    """A table; ``numbers``: columns that are set to the right."""

    def line(cells: Iterable[str], tag: str) -> str:
        kinds = (' class="number"' if index in numbers else "" for index in range(len(header)))
        return "".join(
            f"<{tag}{kind}{_hint(cell)}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{line(header, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _hint(cell: str) -> str:
    """What is shown of a long text when someone points at it."""
    return f' title="{escape(cell)}"' if len(cell) > _LONG else ""


def _formats(report: Report) -> str:
    header = ("format", "weights", "elements", "bits per weight", "bytes")
    rows = (
        (share.label, str(share.layers), f"{share.elements:,}", f"{share.bits_per_weight:.2f}", f"{share.bytes:,}")
        for share in report.shares
    )
    return _table(header, rows, (1, 2, 3, 4))


def _entries(account: Account) -> str:
    ratios = {damage.target: damage.snr for damage in account.damages}
    header = ("what", "where", "shape", "from", "to", "group", "bytes", "SNR, dB", "why", "layers")
    rows = (
        (
            entry.action,
            entry.target,
            "×".join(map(str, entry.shape)),
            entry.dtype,
            entry.format,
            "" if not entry.format or entry.action != "compress" else _group(entry.group_size),
            f"{entry.bytes_after:,}" if entry.bytes_after else "",
            f"{ratios[entry.target]:.1f}" if entry.action == "compress" and entry.target in ratios else "",
            entry.reason,
            ", ".join(entry.users),
        )
        for entry in account.report.entries
    )
    return _table(header, rows, (6, 7))


def _group(size: int) -> str:
    return "channel" if size == -1 else str(size)
