"""Which constants cannot be compressed."""

from __future__ import annotations

from nncf_core.graph import Constant, Graph, OpKind


def refusal(graph: Graph, constant: Constant) -> str | None:
    """Why a constant cannot be compressed, with what would work; every format can be stored."""
    recurrent = [node.name for node, _ in graph.users(constant.name) if node.kind is OpKind.RECURRENT]
    if recurrent:
        return (
            f"it is a weight of the recurrent layer {recurrent[0]!r}, whose kernels take parameters only. Leave it out "
            "with ignored_scope."
        )
    return None
