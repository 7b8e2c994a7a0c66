"""Biases that a runtime turns into 32-bit integers, whose scale is the product of those of operand and weight.

Where a channel's weights are small, that scale is, too, and a bias may be more than such integers hold. A larger scale
of the weights costs nothing then: next to the bias they are nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from nncf_core.contracts import Context
from nncf_core.graph import Graph, Node, WeightLayout
from nncf_core.numerics.quantizer import Quantizer
from nncf_post_training_quantization.biases import biases_of

_MOST = np.float32(2**30)
"""Half of what 32 bits hold: biases are corrected afterwards."""


def smallest_scales(
    graph: Graph,
    users: Iterable[tuple[Node, int]],
    shape: tuple[int, ...],
    quantizers: Mapping[str, Quantizer],
    context: Context,
) -> np.ndarray:
    """What the scales of a weight may not be less than, in a shape that broadcasts against it.

    :param shape: of the weight.
    :param quantizers: by the tensor that they quantize.
    """
    result = np.zeros((1,) * len(shape), np.float32)
    for node, index in users:
        layout = node.inputs[index].layout
        for bias in biases_of(graph, [node], context, everywhere=False):
            quantizer = quantizers.get(node.inputs[bias.mean.target.port].tensor)
            if bias.constant is None or layout is None or quantizer is None:
                continue
            values = np.abs(bias.constant.read().astype(np.float32)).reshape(-1)
            result = np.maximum(result, _as_channels(values / (quantizer.scale * _MOST), layout, shape))
    return result


def _as_channels(values: np.ndarray, layout: WeightLayout, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of the output channels along the axes that these have in the weight."""
    kept = (*layout.batch_axes, *layout.channel_axes)
    ordered = values.reshape([shape[axis] for axis in kept]).transpose(np.argsort(kept))
    return ordered.reshape([shape[axis] if axis in kept else 1 for axis in range(len(shape))])
