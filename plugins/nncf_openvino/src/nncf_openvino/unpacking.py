"""Which models OpenVINO computes with one stream alone."""

from __future__ import annotations

from typing import Any

import openvino as ov

from nncf_openvino.element_types import type_name

_BITS = 8
"""Constants of at most so many are codes."""

_SCALING = frozenset({"Constant", "Convert", "Subtract", "Multiply", "Reshape", "Transpose"})

_TAKING = {
    "MatMul": {1},
    "Convolution": {1},
    "GroupConvolution": {1},
    "ConvolutionBackpropData": {1},
    "GroupConvolutionBackpropData": {1},
    "Gather": {0},
    "LSTMSequence": {4, 5},
    "GRUSequence": {3, 4},
    "RNNSequence": {3, 4},
}
"""Inputs by operator through which weights were right in all of 60 compilations, those of MatMul as matrices."""


def one_stream(model: ov.Model) -> bool:
    """Whether several streams may give wrong numbers.

    Where OpenVINO (2026.4) does not take codes as they are it unpacks them for each stream when the first run comes,
    and then streams now and then get each other's memory: seen with weights of MatMul that are no matrices or are the
    first operand, with codebooks, and with floats of 8 bits.
    """
    coded: dict[str, bool] = {}  # by name of what follows from constants alone: whether codes are among them
    for node in model.get_ordered_ops():
        kind, name = node.get_type_name(), node.get_name()
        if kind == "Constant":
            element = node.get_element_type()
            if type_name(element).startswith("f8"):
                return True
            coded[name] = element.bitwidth <= _BITS and type_name(element) != "boolean"
            continue
        sources = [source.get_node().get_name() for source in node.input_values()]
        constant = bool(sources) and all(source in coded for source in sources)
        if constant and kind in _SCALING:
            coded[name] = any(coded[source] for source in sources)
        elif any(coded.get(source) and not _takes(node, port) for port, source in enumerate(sources)):
            return True
    return False


def _takes(node: Any, port: int) -> bool:
    kind = node.get_type_name()
    if port not in _TAKING.get(kind, ()):
        return False
    rank = node.get_input_partial_shape(port).rank
    return kind != "MatMul" or bool(rank.is_static and rank.get_length() == 2)
