"""What was done, in figures. Made from the plan and the graph of the original model, not from side effects."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from attrs import frozen

from nncf_core.graph import Constant, Graph, Trait
from nncf_core.plan import Plan, PlanEntry


@frozen
class FormatShare:
    """How much of the weights is in one format.

    :param label: format and granularity, e.g. ``int4, group size 64``.
    :param layers: number of weights.
    :param elements: number of their elements.
    :param bytes: bytes that they take.
    """

    label: str
    layers: int
    elements: int
    bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Mean number of bits an element takes, with scales and zero points."""
        return 8 * self.bytes / self.elements if self.elements else 0.0


@frozen
class Report:
    """Shares of the formats, and one entry for each edit.

    :param shares: weights by format, largest share first.
    :param bytes_before: bytes of all weights before.
    :param bytes_after: bytes of all weights after, with low-rank branches beside them.
    :param entries: what was done, see :class:`~nncf_core.plan.PlanEntry`.
    :param notes: what algorithms chose and why, a sentence each.
    """

    shares: tuple[FormatShare, ...]
    bytes_before: int
    bytes_after: int
    entries: tuple[PlanEntry, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, graph: Graph, plan: Plan, notes: Iterable[str] = ()) -> Report:
        """The report of a plan for the model that the graph describes."""
        done = {entry.target: entry for entry in plan.entries if entry.action == "compress"}
        branches = {entry.target: entry for entry in plan.entries if entry.action == "low_rank"}
        left = _shares_left(plan.entries)
        weights = weight_constants(graph)
        rows = [
            (
                _label(c, done.get(c.name)),
                round(c.size * left.get(c.name, 1.0)),
                (done[c.name].bytes_after if c.name in done else round(c.stored_bytes * left.get(c.name, 1.0)))
                + (branches[c.name].bytes_after if c.name in branches else 0),
            )
            for c in weights
        ]
        return cls(
            _shares(rows),
            sum(c.stored_bytes for c in weights),
            sum(after for _, _, after in rows),
            plan.entries,
            (*notes, *_notes_of(branches.values())),
        )

    @property
    def elements(self) -> int:
        """Number of elements of all weights."""
        return sum(share.elements for share in self.shares)

    @property
    def bits_per_weight(self) -> float:
        """Mean number of bits an element of the weights takes after compression."""
        return 8 * self.bytes_after / self.elements if self.elements else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data for machines."""
        return {
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "bits_per_weight": round(self.bits_per_weight, 4),
            "formats": [
                {
                    "format": share.label,
                    "layers": share.layers,
                    "elements": share.elements,
                    "bytes": share.bytes,
                    "bits_per_weight": round(share.bits_per_weight, 4),
                }
                for share in self.shares
            ],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """A table in plain text, and the notes."""
        header = ("Format", "Weights", "% of elements", "Bits per weight", "Bytes")
        rows = [
            (
                share.label,
                str(share.layers),
                f"{100 * share.elements / max(self.elements, 1):.1f}",
                f"{share.bits_per_weight:.2f}",
                f"{share.bytes:,}",
            )
            for share in self.shares
        ]
        layers = str(sum(share.layers for share in self.shares))
        rows.append(("all", layers, "100.0", f"{self.bits_per_weight:.2f}", f"{self.bytes_after:,}"))
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

        def line(row: Iterable[str]) -> str:
            cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            return "  ".join(cells).rstrip()

        return "\n".join([line(header), line("-" * w for w in widths), *map(line, rows), *self.notes])


def weight_constants(graph: Graph) -> tuple[Constant, ...]:
    """Constants that some operator uses as a weight, compressed or not, each once, in graph order."""
    names = dict.fromkeys(
        port.constant
        for node in graph
        if Trait.WEIGHTED in node.traits
        for _, port in node.weights
        if port.constant is not None
    )
    found = (graph.constants[name] for name in names)
    return tuple(c for c in found if c.is_float or c.compressed_format is not None)


def describe_model(graph: Graph) -> Report:
    """The report of a model as it is, for ``nncf inspect``."""
    return Report.of(graph, Plan(graph.framework, ()))


def _shares_left(entries: Iterable[PlanEntry]) -> dict[str, float]:
    """What constants that shrink along some axes keep of their elements, by name."""
    left: dict[str, float] = {}
    for entry in entries:
        if entry.action == "shrink" and entry.bytes_before:
            left[entry.target] = left.get(entry.target, 1.0) * entry.bytes_after / entry.bytes_before
    return left


def _notes_of(branches: Collection[PlanEntry]) -> tuple[str, ...]:
    if not branches:
        return ()
    total = sum(entry.bytes_after for entry in branches)
    weights = "1 weight" if len(branches) == 1 else f"{len(branches)} weights"
    return (f"Of these bytes {total:,} are of low-rank branches beside {weights}.",)


def _label(constant: Constant, entry: PlanEntry | None) -> str:
    if entry is not None:
        size = entry.group_size
        return f"{entry.format}, {'per channel' if size == -1 else f'group size {size}'}"
    if constant.compressed_format is not None:
        return (
            f"{constant.compressed_format}, {constant.granularity}"
            if constant.granularity
            else constant.compressed_format
        )
    return constant.dtype


def _shares(rows: Iterable[tuple[str, int, int]]) -> tuple[FormatShare, ...]:
    by_label: dict[str, list[tuple[int, int]]] = {}
    for label, elements, size in rows:
        by_label.setdefault(label, []).append((elements, size))
    shares = (
        FormatShare(label, len(found), sum(e for e, _ in found), sum(b for _, b in found))
        for label, found in by_label.items()
    )
    return tuple(sorted(shares, key=lambda share: (-share.elements, share.label)))
