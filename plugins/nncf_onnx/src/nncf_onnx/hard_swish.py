"""Hard swish in as few operators as there are: exporters write ``x·clip(x + 3, 0, 6)/6`` as four.

``x·HardSigmoid(x)`` is the same (Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 5.2), and every opset
knows it. HardSwish itself came with opset 14, and onnxruntime computes it in these two steps.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from nncf_onnx.plain_constants import numbers_of, single_user
from nncf_onnx.rewriting import Rewriter


def fuse_hard_swish(model: ir.Model, rewriter: Rewriter) -> int:
    """Rewrite every hard swish and hard sigmoid of the main graph; gives how many there were."""
    count = 0
    for clip in list(model.graph):
        x = _shifted(clip)
        if x is None:
            continue
        end = single_user(clip.outputs[0])
        by_six = end is not None and _is_sixth(end, clip.outputs[0])
        product = end if not by_six else None
        if product is not None:
            # x·clip(x + 3, 0, 6), which is divided by six afterwards
            end = single_user(product.outputs[0])
            if product.op_type != "Mul" or x not in product.inputs or end is None:
                continue
            if not _is_sixth(end, product.outputs[0]):
                continue
        if end is None:
            continue
        gate = rewriter.node("HardSigmoid", [x], f"{end.name}_gate", f"{x.name}_gate", x.dtype)
        gate.attributes.update({"alpha": ir.AttrFloat32("alpha", 1 / 6), "beta": ir.AttrFloat32("beta", 0.5)})
        gate.outputs[0].shape = x.shape
        chain = [gate]
        if product is not None:
            chain.append(rewriter.node("Mul", [x, gate.outputs[0]], f"{end.name}_product", f"{x.name}_product"))
        rewriter.take_over_output(end, *chain)
        count += 1
    return count


def _shifted(clip: ir.Node) -> ir.Value | None:
    """``x`` of ``clip(x + 3, 0, 6)``."""
    if clip.op_type != "Clip" or clip.domain != "" or len(clip.inputs) != 3:
        return None
    if not (_is(clip.inputs[1], 0) and _is(clip.inputs[2], 6)):
        return None
    total = clip.inputs[0].producer() if clip.inputs[0] is not None else None
    if total is None or total.op_type != "Add" or total.domain != "" or single_user(total.outputs[0]) is not clip:
        return None
    for index, value in enumerate(total.inputs):
        if _is(value, 3):
            return total.inputs[1 - index]
    return None


def _is_sixth(node: ir.Node, value: ir.Value) -> bool:
    if node.domain != "" or node.op_type not in ("Div", "Mul"):
        return False
    first, second = node.inputs
    if node.op_type == "Div":
        return first is value and _is(second, 6)
    return _is(second if first is value else first, 1 / 6)


def _is(value: ir.Value | None, number: float) -> bool:
    """Whether a value is one number that does not raise the rank of what it is combined with."""
    array = numbers_of(value)
    return array is not None and array.shape in ((), (1,)) and bool(np.isclose(array, number, rtol=1e-6).all())
