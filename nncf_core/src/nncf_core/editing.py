"""Edits of a user's model outside of a run."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import Model
from nncf_core.transformations import Transformation


def edited(model: Model, edits: Iterable[Transformation]) -> Model:
    """A model of the same kind with edits; the one that is given is not changed.

    :param edits: they name constants, and nodes where the graph has them without an example input.
    :raises UnsupportedBackendError: when no installed backend takes the model.
    """
    from nncf_core.registry import registry

    backend = registry().backend_for(model)
    working = backend.builder.open(model, {})
    graph = backend.builder.build(working)
    return backend.builder.export(backend.inserter.apply(working, graph, edits, {}), model)
