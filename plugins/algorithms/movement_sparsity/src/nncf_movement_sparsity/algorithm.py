"""Movement sparsity (Sanh et al. 2020, https://arxiv.org/abs/2005.07683; in blocks: Lagunas et al. 2021,
https://arxiv.org/abs/2109.04838): scores of weights are trained, and those below a threshold that rises are zero.

The gradient of a score is that of its mask, the weight's times the weight: scores of weights that move away from zero
grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nncf_core.contracts import Context
from nncf_core.errors import ValidationError
from nncf_core.graph import Graph, OpKind
from nncf_core.scopes import from_legacy, ignored_names
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.training.contracts import TrainedModel
from nncf_core.training.sparsity import excluded_by_mask, sparsifiable
from nncf_core.transformations import InsertMask, MaskKind, Transformation
from nncf_movement_sparsity.controller import MovementSparsityController
from nncf_movement_sparsity.parameters import SCHEMA, MovementSettings, SparseStructure


class MovementSparsity:
    """The algorithm."""

    name: ClassVar[str] = "movement_sparsity"
    parameters: ClassVar[type] = MovementSettings
    only_trains: ClassVar[bool] = True
    excludes: ClassVar[Mapping[str, str]] = excluded_by_mask("movement_sparsity")

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the section."""
        return SCHEMA

    def rounds(self, graph: Graph, params: MovementSettings) -> int:
        """One."""
        return 1

    def requests(
        self, graph: Graph, params: MovementSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """None: masks are trained."""
        return ()

    def transformations(
        self, graph: Graph, statistics: Statistics, params: MovementSettings, context: Context, round_index: int
    ) -> Iterator[Transformation]:
        """A scored mask for each matrix; scores begin at zero."""
        if not context.training:
            return
        chosen = _structures(graph, params.sparse_structure_by_scopes)
        for constant in sparsifiable(graph, context, [OpKind.MATMUL]):
            if len(constant.shape) != 2:
                continue
            structure = chosen.get(constant.name)
            shape = constant.shape if structure is None else structure.shape_for(constant.name, constant.shape)
            what = "elements" if structure is None or structure.mode == "fine" else f"{structure.mode} {list(shape)}"
            yield InsertMask(constant.name, np.zeros(shape, np.float32), MaskKind.SCORED, f"scores of {what}")

    def controller(
        self, trained: TrainedModel, graph: Graph, statistics: Statistics, params: MovementSettings
    ) -> MovementSparsityController:
        """The controller of the masks."""
        return MovementSparsityController(trained, graph, params)


def _structures(graph: Graph, structures: Sequence[SparseStructure]) -> dict[str, SparseStructure]:
    """What scores stand for, by names of weights.

    :raises ValidationError: when a scope matches nothing, or two match one layer.
    """
    found: dict[str, SparseStructure] = {}
    for structure in structures:
        names = ignored_names(graph, from_legacy(structure.target_scopes), "sparse_structure_by_scopes")
        for node in graph:
            for _, port in node.weights:
                name = str(port.constant)
                if node.name not in names and name not in names:
                    continue
                if found.get(name, structure) is not structure:
                    raise ValidationError(f"movement_sparsity: two of sparse_structure_by_scopes match {node.name!r}.")
                found[name] = structure
    return found
