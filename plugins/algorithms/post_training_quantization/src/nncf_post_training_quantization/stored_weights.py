"""Weights that are stored in 8 bits although operators compute with floats: embeddings, and recurrent layers.

Rows of a table are made floats when they are taken, and recurrent weights when a model is loaded; both cost next to
nothing, and the model is as small as if all of it were computed with integers.
"""

from __future__ import annotations

from collections.abc import Iterator

from nncf_core.contracts import CompressionRequest, Context, is_excluded
from nncf_core.graph import FLOAT_DTYPES, Graph, Node
from nncf_core.hardware import QuantizationSetup
from nncf_post_training_quantization.placement import QuantizedWeight

_SMALLEST = 1 << 12
"""Elements; what decompresses fewer takes about as much as they save."""


def stored_weights(
    graph: Graph, setup: QuantizationSetup, context: Context, request: CompressionRequest
) -> Iterator[QuantizedWeight]:
    """The constants that only operators of the setup's ``stored`` types take.

    :param request: how they are to be stored.
    """
    seen: set[str] = set()
    for node in graph:
        if node.op_type not in setup.stored:
            continue
        for _, port in node.weights:
            if port.constant is None or port.constant in seen:
                continue
            seen.add(port.constant)
            constant, users = graph.constants[port.constant], graph.users(port.constant)
            if (
                constant.is_float
                and constant.size >= _SMALLEST
                and all(_looks_up(user, index, setup) or _asks_for_shape(user) for user, index in users)
                and not any(is_excluded(user, context.ignored) for user, _ in users)
                and context.refusal(constant, request) is None
            ):
                yield QuantizedWeight(constant, tuple(pair for pair in users if _looks_up(*pair, setup)))


def _looks_up(user: Node, index: int, setup: QuantizationSetup) -> bool:
    return user.op_type in setup.stored and user.inputs[index].layout is not None


def _asks_for_shape(user: Node) -> bool:
    return all(port.dtype is not None and port.dtype not in FLOAT_DTYPES for port in user.outputs)
