"""The controller of constant sparsity."""

from __future__ import annotations

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import Graph
from nncf_core.training.contracts import TrainedModel
from nncf_core.training.control import CompressionStage
from nncf_core.training.sparsity import SparsityController
from nncf_core.training.statistics import ConstSparsityStatistics, NNCFStatistics
from nncf_core.transformations import MaskKind


class ConstSparsityController(SparsityController):
    """Masks that stay."""

    name = "const_sparsity"
    nothing = "no weight has zeros to keep, or ignored_scopes and target_scopes leave those that have out"

    def __init__(self, trained: TrainedModel, graph: Graph) -> None:
        super().__init__(trained, graph, MaskKind.FIXED)
        self.warn(trained)

    @property
    def has_rate(self) -> bool:
        """The zeros are the model's."""
        return False

    def set_sparsity_level(self, sparsity_level: float) -> None:
        """Refuse.

        :raises ParameterNotSupportedError: always.
        """
        raise ParameterNotSupportedError("const_sparsity keeps the zeros that a model has; their share is not set.")

    def compression_stage(self) -> CompressionStage:
        """Fully compressed from the beginning."""
        return CompressionStage.FULLY_COMPRESSED

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        """Shares of zeros."""
        return NNCFStatistics.of(self.name, ConstSparsityStatistics(self.model_statistics()))
