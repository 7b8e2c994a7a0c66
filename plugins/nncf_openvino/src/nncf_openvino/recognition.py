"""Compressed weights that are in a model already: by this backend, or by other tools."""

from __future__ import annotations

from collections.abc import Iterable

import openvino as ov

from nncf_openvino.forms.compressed import CompressedConstant
from nncf_openvino.forms.fake_quantize import fake_quantized
from nncf_openvino.forms.reading import decompression
from nncf_openvino.traversal import Value, value_of

_READERS = {"Multiply": decompression, "FakeQuantize": fake_quantized}


def compressed_constants(nodes: Iterable[ov.Node]) -> dict[Value, CompressedConstant]:
    """Every compressed weight by the value that its users take.

    :param nodes: all operators of a model.
    """
    found: dict[Value, CompressedConstant] = {}
    for node in nodes:
        reader = _READERS.get(node.get_type_name())
        constant = None if reader is None else reader(node)
        if constant is not None:
            found[value_of(constant.output)] = constant
    # the scales of a compressed weight may look like one themselves
    inner = {part for value, constant in found.items() for part in constant.parts if part != value.node}
    return {value: constant for value, constant in found.items() if value.node not in inner}
