"""Quantization to 8-bit floats (Micikevicius et al. 2022, https://arxiv.org/abs/2209.05433).

A range is brought to the largest number of the format: for weights the range of each output channel, for activations
twice the range that was seen of the tensor, since twice the headroom costs nothing but the smallest of numbers.
"""

from __future__ import annotations

import numpy as np

from nncf_core.contracts import CompressionRequest, Context
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import Constant, Graph, WeightLayout
from nncf_core.hardware import QuantizationSetup
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.quantizer import FLOAT8, floating
from nncf_core.numerics.tensor import CompressedTensor


def setup_of(setup: QuantizationSetup, formats: tuple[str, str], device: str) -> QuantizationSetup:
    """The setup of a device for 8-bit floats.

    :raises ParameterNotSupportedError: when the device does not compute with them.
    """
    found = [setup.in_float8(name) for name in formats]
    if found[0] is None or found[1] is None:
        missing = formats[0] if found[0] is None else formats[1]
        known = ", ".join(setup.float8) or "no 8-bit floats"
        raise ParameterNotSupportedError(
            f"The runtime computes with no {missing} on target_device {device}; it knows {known}. Leave out mode for "
            "integers of 8 bits, or target_device."
        )
    return found[0]


def request(number_format: str) -> CompressionRequest:
    """How weights are stored."""
    return CompressionRequest(f"fp8_{number_format.removeprefix('f8')}", number_format)


def check_weights(graph: Graph, setup: QuantizationSetup, context: Context, wanted: CompressionRequest) -> None:
    """See that the model can hold weights in 8-bit floats.

    :raises ParameterNotSupportedError: when it can hold none, with what would help.
    """
    reasons = [
        context.refusal(graph.constants[port.constant], wanted)
        for node in graph
        if setup.of(node) is not None
        for _, port in node.weights
        if port.constant is not None and graph.constants[port.constant].is_float
    ]
    if reasons and all(reason is not None for reason in reasons):
        raise ParameterNotSupportedError(f"The weights cannot be 8-bit floats. {reasons[0]}")


def quantized(
    constant: Constant, layout: WeightLayout, number_format: str, smallest: np.ndarray | None = None
) -> CompressedTensor:
    """The codes of a constant, with a float32 scale for each output channel.

    :param smallest: what the scales may not be less than; it broadcasts against them.
    """
    weight = constant.read().astype(np.float32)
    kept = {*layout.batch_axes, *layout.channel_axes}
    reduced = tuple(axis for axis in range(weight.ndim) if axis not in kept)
    low, high = (end(weight, axis=reduced, keepdims=True) for end in (np.min, np.max))
    scale = floating(low.reshape(-1), high.reshape(-1), number_format, axis=0, headroom=1).scale.reshape(low.shape)
    if smallest is not None:
        scale = np.maximum(scale, smallest)
    top = np.float32(FORMATS[number_format].max_value)
    codes = np.clip(weight / scale, -top, top).astype(FLOAT8[number_format])
    return CompressedTensor(
        format=FORMATS[number_format],
        shape=weight.shape,
        codes=codes.view(np.uint8).reshape(-1),
        scale=scale,
        zero_point=None,
        dtype=constant.dtype,
        reduction_axes=reduced,
    )
