"""Figures of the algorithms that make weights zero."""

from nncf_core.training.statistics import (
    ConstSparsityStatistics,
    LayerThreshold,
    MagnitudeSparsityStatistics,
    MovementSparsityStatistics,
    RBSparsityStatistics,
    SparsifiedLayerSummary,
    SparsifiedModelStatistics,
)

__all__ = [
    "ConstSparsityStatistics",
    "LayerThreshold",
    "MagnitudeSparsityStatistics",
    "MovementSparsityStatistics",
    "RBSparsityStatistics",
    "SparsifiedLayerSummary",
    "SparsifiedModelStatistics",
]
