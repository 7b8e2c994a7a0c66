"""Figures of a compression while its model is trained.

Names and fields are those of NNCF's ``nncf.api.statistics`` and ``nncf.common.statistics``. Algorithms fill the
classes; what an algorithm of a third party fills in besides goes to :attr:`NNCFStatistics.others`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, field, fields, frozen


class Statistics:
    """Figures that can be shown."""

    def to_str(self) -> str:
        """The figures as text."""
        raise NotImplementedError


def table(title: str, rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    """A table of text, columns aligned; fractions are shown with three digits."""
    shown = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *shown, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *shown)]
    rule = "-+-".join("-" * width for width in widths)
    return "\n".join([title, lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])])


@frozen
class SparsifiedLayerSummary:
    """A weight.

    :param name: of the constant.
    :param weight_shape: its shape.
    :param sparsity_level: share of its elements that are zero.
    :param weight_percentage: share of its elements among those of all weights of the model, in percent.
    """

    name: str
    weight_shape: tuple[int, ...]
    sparsity_level: float
    weight_percentage: float


@frozen
class SparsifiedModelStatistics(Statistics):
    """A model whose weights have zeros.

    :param sparsity_level: share of zeros among all weights of the model.
    :param sparsity_level_for_layers: share of zeros among the weights with masks.
    :param sparsified_layers_summary: each of these.
    """

    sparsity_level: float
    sparsity_level_for_layers: float
    sparsified_layers_summary: tuple[SparsifiedLayerSummary, ...] = ()

    def to_str(self) -> str:
        """Two tables."""
        rows = [
            ("Sparsity level of the whole model", self.sparsity_level),
            ("Sparsity level of all sparsified layers", self.sparsity_level_for_layers),
        ]
        layers = [
            (layer.name, list(layer.weight_shape), layer.sparsity_level, layer.weight_percentage)
            for layer in self.sparsified_layers_summary
        ]
        head = ("Weight", "Shape", "Sparsity level", "Percent of the weights")
        return "\n\n".join(
            [
                table("Statistics of the sparsified model:", rows, ("Statistic", "Value")),
                table("Statistics by sparsified layers:", layers, head),
            ]
        )


@frozen
class SparsityStatistics(Statistics):
    """An algorithm that makes weights zero.

    :param model_statistics: the model as it is.
    :param target_sparsity_level: the sparsity that the schedule asks for now.
    """

    model_statistics: SparsifiedModelStatistics
    target_sparsity_level: float | None = None

    def to_str(self) -> str:
        """The model's tables, and what was asked for."""
        text = self.model_statistics.to_str()
        if self.target_sparsity_level is None:
            return text
        rows = [("Target sparsity level of the schedule", self.target_sparsity_level)]
        return f"{text}\n\n{table('Statistics of the algorithm:', rows, ('Statistic', 'Value'))}"


@frozen
class LayerThreshold:
    """A weight, and the importance above which its elements are kept."""

    name: str
    threshold: float


@frozen
class MagnitudeSparsityStatistics(SparsityStatistics):
    """Magnitude sparsity.

    :param thresholds: of each weight.
    """

    thresholds: tuple[LayerThreshold, ...] = ()


@frozen
class ConstSparsityStatistics(SparsityStatistics):
    """Zeros that stay."""


@frozen
class RBSparsityStatistics(SparsityStatistics):
    """RB sparsity.

    :param mean_sparse_prob: mean probability of an element to be zero.
    """

    mean_sparse_prob: float = 0.0


@frozen
class MovementSparsityStatistics(SparsityStatistics):
    """Movement sparsity.

    :param importance_threshold: what scores have to exceed.
    :param importance_regularization_factor: factor of the loss.
    """

    importance_threshold: float = 0.0
    importance_regularization_factor: float = 0.0


@frozen
class FilterPruningStatistics(Statistics):
    """Pruned filters.

    :param rows: what is counted, and the count.
    """

    rows: tuple[tuple[str, Any], ...] = ()

    def to_str(self) -> str:
        """A table."""
        return table("Statistics of the pruned model:", self.rows, ("Statistic", "Value"))


@frozen
class NNCFStatistics(Statistics):
    """Figures of all algorithms of a config; ``None`` for those that are not in it."""

    magnitude_sparsity: Statistics | None = None
    rb_sparsity: Statistics | None = None
    movement_sparsity: Statistics | None = None
    const_sparsity: Statistics | None = None
    quantization: Statistics | None = None
    filter_pruning: Statistics | None = None
    others: Mapping[str, Statistics] = field(factory=dict)

    @classmethod
    def of(cls, name: str, statistics: Statistics) -> NNCFStatistics:
        """Those of one algorithm."""
        known = {attribute.name for attribute in fields(cls)} - {"others"}
        return evolve(cls(), **({name: statistics} if name in known else {"others": {name: statistics}}))

    def joined(self, other: NNCFStatistics) -> NNCFStatistics:
        """These and those of other algorithms."""
        own = [attribute.name for attribute in fields(type(self)) if attribute.name != "others"]
        changed = {name: getattr(other, name) for name in own if getattr(other, name) is not None}
        return evolve(self, **changed, others={**self.others, **other.others})

    def to_str(self) -> str:
        """The texts of all algorithms."""
        own = (getattr(self, attribute.name) for attribute in fields(type(self)) if attribute.name != "others")
        return "\n\n".join(found.to_str() for found in (*own, *self.others.values()) if found is not None)
