"""Compressed weights that are in a model already: by this backend, or by other tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from nncf_onnx.forms.compressed import CompressedConstant
from nncf_onnx.forms.nbits import DOMAIN
from nncf_onnx.forms.reading_affine import arithmetic, dequantize_linear
from nncf_onnx.forms.reading_codebook import lookup
from nncf_onnx.forms.reading_nbits import OPERATORS, nbits
from nncf_onnx.forms.rows import row_lookup
from nncf_onnx.traversal import walk

__all__ = ["CompressedConstant", "compressed_constants"]

_READERS: Mapping[tuple[str, str], Callable[[ir.Node], tuple[ir.Value, CompressedConstant] | None]] = {
    ("", "DequantizeLinear"): dequantize_linear,
    ("", "Gather"): lambda node: lookup(node) or row_lookup(node),
    ("", "Mul"): arithmetic,
    **{(DOMAIN, op_type): nbits for op_type in OPERATORS},
}


def compressed_constants(model: ir.Model) -> dict[ir.Value, CompressedConstant]:
    """Every compressed weight by the value that stands for it.

    That is the dequantized value as its users take it, or the codes where the operator itself decompresses them.
    """
    found: dict[ir.Value, CompressedConstant] = {}
    for node, _ in walk(model.graph):
        reader = _READERS.get((node.domain, node.op_type))
        weight = None if reader is None else reader(node)
        if weight is not None:
            value, constant = weight
            found[value] = constant
    return found
