"""Sparse activations by a call; ``nncf.experimental.torch.sparsify_activations``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from nncf_core.dataset import Dataset
from nncf_core.pipeline import run
from nncf_core.scopes import IgnoredScope
from nncf_core.structuring import unstructure

TModel = TypeVar("TModel")


class TargetScope(IgnoredScope):
    """Layers that are meant; it has the fields of :class:`nncf.IgnoredScope`, and is hashable."""

    def __hash__(self) -> int:
        return hash(repr(self))


def sparsify_activations(
    model: TModel,
    dataset: Dataset[Any, Any],
    target_sparsity_by_scope: Mapping[TargetScope, float],
    ignored_scope: IgnoredScope | None = None,
) -> TModel:
    """Let the smallest inputs of linear layers become zero.

    :param model: a model of an installed backend's framework; it is not changed.
    :param dataset: thresholds are found on all of its items.
    :param target_sparsity_by_scope: shares of zeros, from 0 to 1, of the inputs of layers.
    :param ignored_scope: layers to leave out.
    :return: the model with sparse inputs.
    :raises ValidationError: for other shares, when no layer is meant, or one twice.
    """
    targets = [
        {"scope": unstructure(_plain(scope)), "sparsity": sparsity}
        for scope, sparsity in target_sparsity_by_scope.items()
    ]
    section: dict[str, Any] = {"algorithm": "activation_sparsity", "targets": targets}
    if ignored_scope is not None:
        section["ignored_scope"] = unstructure(ignored_scope)
    return run({"compression": section}, model, dataset=dataset).model  # type: ignore[no-any-return]


def _plain(scope: IgnoredScope) -> IgnoredScope:
    return IgnoredScope(scope.names, scope.patterns, scope.types, scope.subgraphs, scope.validate)
