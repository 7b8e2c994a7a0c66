"""Graphs of models, for scripts that look for nodes."""

from nncf_core.node_views import (
    NNCFGraph,
    NNCFNode,
)

__all__ = [
    "NNCFGraph",
    "NNCFNode",
]
