"""Angles: what a network gives to sine and cosine, such as positions times the frequencies of a rotary embedding
(Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 15) or of random Fourier features.

A relative error in a frequency turns a position by an angle that grows with the position, so that neither the
frequencies nor the products are to be rounded.
"""

from __future__ import annotations

from nncf_core.graph import Graph, Node, OpKind

_PASSED = frozenset({OpKind.CAST, OpKind.CONCAT, OpKind.SPLIT, OpKind.SHAPE_ONLY})


def angle_products(graph: Graph) -> frozenset[str]:
    """Names of the products that nothing but sine and cosine takes."""
    return frozenset(
        node.name
        for node in graph.of_kind((OpKind.MATMUL, OpKind.MULTIPLY))
        if node.outputs and _is_angle(graph, node.outputs[0].tensor)
    )


def _is_angle(graph: Graph, tensor: str) -> bool:
    users = graph.consumers(tensor)
    return bool(users) and all(
        user.kind is OpKind.PERIODIC or (_passes(user) and all(_is_angle(graph, p.tensor) for p in user.outputs))
        for user in users
    )


def _passes(node: Node) -> bool:
    scales = node.kind is OpKind.MULTIPLY and any(port.constant is not None for port in node.inputs)
    return scales or node.kind in _PASSED
