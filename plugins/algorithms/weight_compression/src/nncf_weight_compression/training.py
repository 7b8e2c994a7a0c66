"""Which weights are trained after compression, and which of them with adapters."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from nncf_core.errors import ValidationError
from nncf_core.graph import OpKind
from nncf_core.transformations import Training
from nncf_weight_compression.parameters import Settings
from nncf_weight_compression.selection import Assignment

_MATRICES = (OpKind.MATMUL, OpKind.EMBEDDING)


def with_training(assignments: Sequence[Assignment], settings: Settings) -> list[Assignment]:
    """Assignments with how each weight is trained, where weights are.

    Adapters are for the matrices in the primary format; where none is, for all: 8 bits need no help where others have
    fewer.

    :raises ValidationError: when the rank of adapters is larger than that of a matrix.
    """
    if not settings.trained:
        return list(assignments)
    rank = settings.adapter_rank
    matrices = [a for a in assignments if a.weight.node.kind in _MATRICES] if rank else []
    matrices = [a for a in matrices if a.scheme is settings.primary] or matrices
    _check_rank(matrices, rank)
    adapted = {a.weight.constant.name for a in matrices}
    return [evolve(a, training=Training(rank if a.weight.constant.name in adapted else 0)) for a in assignments]


def _check_rank(matrices: Sequence[Assignment], rank: int) -> None:
    smaller = [a for a in matrices if _full_rank(a) < rank]
    if not smaller:
        return
    listed = "; ".join(
        f"{a.weight.constant.name} (node {a.weight.node.name}): {list(a.weight.constant.shape)}" for a in smaller[:10]
    )
    more = f" and {len(smaller) - 10} more" if len(smaller) > 10 else ""
    raise ValidationError(
        f"advanced_parameters.lora_adapter_rank is {rank}, more than the rows or columns of {len(smaller)} weights: "
        f"{listed}{more}. Set it to {min(map(_full_rank, smaller))} or less, or exclude these nodes with ignored_scope."
    )


def _full_rank(assignment: Assignment) -> int:
    return min(assignment.weight.constant.shape[-2:])
