"""Bits of weights by how curved the loss is at them: HAWQ-V2 (Dong et al. 2019, https://arxiv.org/abs/1911.03852).

Rounding a weight ``W`` to ``W_b`` of ``b`` bits is taken to cost ``mean trace of the loss's Hessian · ‖W_b - W‖²``
(equation 6). Bits are chosen so that these costs add up to least, with so many bit operations at most: a layer takes
``multiplications · bits of weight · bits of activation``, and activations get the bits of the layers that take them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from attrs import frozen

from nncf_core.contracts import Context
from nncf_core.errors import ValidationError
from nncf_core.graph import Graph, Node, OpKind
from nncf_core.numerics.kernels import decompress
from nncf_post_training_quantization.overrides import MixedPrecision, Override
from nncf_post_training_quantization.parameters import Settings
from nncf_post_training_quantization.placement import Placement, QuantizedWeight
from nncf_post_training_quantization.weights import quantized

_WHOLE = 8


@frozen(eq=False)
class Choice:
    """A weight, and what each number of bits takes and costs.

    :param multiplications: of its layers, for a sample.
    :param costs: by bits.
    """

    name: str
    multiplications: int
    costs: Mapping[int, float]

    def operations(self, bits: int) -> int:
        """Bit operations."""
        return self.multiplications * bits * bits


def overrides(
    graph: Graph, placement: Placement, settings: Settings, wanted: MixedPrecision, context: Context
) -> list[Override]:
    """The bits of weights and of the activations that their layers take.

    :raises ParameterNotSupportedError: when nobody knows traces.
    :raises ValidationError: when so few bit operations cannot be had, or a trace is missing.
    """
    weights = [weight for weight in placement.weights if settings.of("weights", weight.names) is not None]
    names = [weight.constant.name for weight in weights]
    traces: Mapping[str, float] | None = wanted.traces
    if traces is None:
        traces = context.hessian_traces(names, wanted.samples, wanted.vectors, wanted.tolerance)
    missing = [name for name in names if name not in traces]
    if missing:
        raise ValidationError(
            f"mixed_precision: there is no trace of {', '.join(map(repr, missing[:5]))}; these have one: "
            f"{', '.join(map(repr, list(traces)[:5])) or 'none'}. Name weights as the model does, or leave traces out."
        )
    choices = [
        Choice(
            weight.constant.name,
            sum(weight.constant.size * _positions(node) for node, _ in weight.users),
            _costs(weight, settings, sorted(wanted.bits), float(traces[weight.constant.name])),
        )
        for weight in context.progress.track(weights, "Choosing bits", len(weights))
    ]
    bits = choose(choices, wanted.compression_ratio)
    context.note(f"Bits of weights by traces of the Hessian: {', '.join(f'{name}: {n}' for name, n in bits.items())}.")
    return [
        *(Override("weights", [name], num_bits=n) for name, n in bits.items()),
        *_of_activations(graph, placement, bits),
    ]


def choose(choices: Sequence[Choice], ratio: float) -> dict[str, int]:
    """Bits of each weight, so that there are ``ratio`` times fewer bit operations than with 8 bits, or fewer still.

    From the most bits on, the step that costs least for each operation saved is taken until there are few enough; this
    walks along the convex hulls of costs over operations. Then bits are given back where there is room.

    :raises ValidationError: when there are never so few.
    """
    limit = sum(choice.operations(_WHOLE) for choice in choices) / ratio
    bits = {choice.name: max(choice.costs) for choice in choices}
    by_name = {choice.name: choice for choice in choices}

    def total() -> int:
        return sum(by_name[name].operations(n) for name, n in bits.items())

    while total() > limit:
        steps = [
            ((choice.costs[n] - choice.costs[now]) / (choice.operations(now) - choice.operations(n)), choice.name, n)
            for choice in choices
            for n in choice.costs
            if n < (now := bits[choice.name])
        ]
        if not steps:
            least = total() and sum(choice.operations(_WHOLE) for choice in choices) / total()
            raise ValidationError(
                f"compression_ratio {ratio} cannot be reached with these bits, {least:.3g} at most; allow fewer bits."
            )
        _, name, n = min(steps)
        bits[name] = n
    while True:
        room = limit - total()
        raises = [
            (choice.costs[n] - choice.costs[now], choice.name, n)
            for choice in choices
            for n in choice.costs
            if n > (now := bits[choice.name]) and choice.operations(n) - choice.operations(now) <= room
        ]
        if not raises or min(raises)[0] >= 0:
            return bits
        _, name, n = min(raises)
        bits[name] = n


def _costs(weight: QuantizedWeight, settings: Settings, bits: Sequence[int], trace: float) -> dict[int, float]:
    values = weight.constant.read().astype(np.float32)
    costs = {}
    for n in bits:
        own = settings.with_overrides([Override("weights", num_bits=n)]).of("weights", weight.names)
        assert own is not None
        error = decompress(quantized(weight.constant, weight.layout, own.weights), np.float32) - values
        # where the loss is not convex its mean curvature tells nothing
        costs[n] = max(trace, 0.0) * float(np.square(error, dtype=np.float64).sum())
    return costs


def _positions(node: Node) -> int:
    """At how many positions of a sample a layer multiplies with its whole weight."""
    shape: Any = node.outputs[0].shape or ()
    inner = shape[2:] if node.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE) else shape[1:-1]
    return prod(n for n in inner if isinstance(n, int) and n > 0)


def _of_activations(graph: Graph, placement: Placement, bits: Mapping[str, int]) -> list[Override]:
    of_layers = {
        node.name: bits[weight.constant.name]
        for weight in placement.weights
        if weight.constant.name in bits
        for node, _ in weight.users
    }
    found = []
    for tensor in placement.tensors:
        takers = [of_layers[node.name] for node in graph.consumers(tensor.tensor) if node.name in of_layers]
        if takers:
            found.append(Override("activations", [str(point) for point in tensor.points], num_bits=max(takers)))
    return found
