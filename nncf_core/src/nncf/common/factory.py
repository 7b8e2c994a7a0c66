"""Graphs of models, whatever their framework."""

from typing import Any

from nncf_core.api import build_graph
from nncf_core.node_views import NNCFGraph

__all__ = ["NNCFGraphFactory", "build_graph"]


class NNCFGraphFactory:
    """Makes graphs; :func:`nncf.build_graph` as a class."""

    @staticmethod
    def create(model: Any) -> NNCFGraph:
        """The graph of a model of an installed backend's framework."""
        return build_graph(model)
