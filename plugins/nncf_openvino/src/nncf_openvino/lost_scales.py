"""Convolutions whose scale OpenVINO 2026.4 would lose.

Where a convolution of quantized operands has no bias, several operators take its result, and shapes are not known in
advance, its low-precision transformations move the scale behind one of the operators and forget it for another: means
of channels, for instance, come out thousands of times too small. With a bias they do not. So such a convolution gets
one that is next to nothing; but not nothing, which would be removed again.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset1

_CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution"})
_NEXT_TO_NOTHING = 1e-30


def give_biases(model: ov.Model) -> None:
    """Give a bias to the convolutions of a model that need one."""
    for node in model.get_ordered_ops():
        if node.get_type_name() not in _CONVOLUTIONS or node.get_element_type() != ov.Type.f32:
            continue
        result = node.output(0)
        users = list(result.get_target_inputs())
        shape = result.get_partial_shape()
        if len(users) < 2 or shape.is_static or shape.rank.is_dynamic or shape[1].is_dynamic:
            continue
        axes = (1, shape[1].get_length(), *[1] * (shape.rank.get_length() - 2))
        bias = opset1.constant(np.full(axes, _NEXT_TO_NOTHING, np.float32))
        added = opset1.add(result, bias)
        added.set_friendly_name(f"{node.get_friendly_name()}/biased")
        for user in users:
            user.replace_source_output(added.output(0))
        names = result.get_names()
        if names:
            result.get_tensor().set_names(set())
            added.output(0).get_tensor().set_names(names)
