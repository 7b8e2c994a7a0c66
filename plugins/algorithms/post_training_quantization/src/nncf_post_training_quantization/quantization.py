"""What quantization asks of the data, and the edits that it makes of the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from attrs import evolve

from nncf_core.contracts import Context
from nncf_core.errors import NotFiniteError, ParameterNotSupportedError
from nncf_core.graph import Graph, Node
from nncf_core.hardware import QuantizationSetup
from nncf_core.log import nncf_logger
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.quantizer import Quantizer, asymmetric, floating, symmetric
from nncf_core.parameters import OverflowFix
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import (
    CompressConstant,
    InsertQuantizer,
    ReplaceConstant,
    Transformation,
    point_of,
)
from nncf_post_training_quantization import float8, mixed_precision
from nncf_post_training_quantization.biases import Bias, biases_of, missing
from nncf_post_training_quantization.integer_biases import smallest_scales
from nncf_post_training_quantization.overrides import check
from nncf_post_training_quantization.parameters import Correction, Settings
from nncf_post_training_quantization.placement import Placement, QuantizedTensor, place
from nncf_post_training_quantization.stages import is_input
from nncf_post_training_quantization.stored_weights import stored_weights
from nncf_post_training_quantization.weights import quantized


def requests(graph: Graph, settings: Settings, context: Context) -> Sequence[StatisticsRequest]:
    """Ends of ranges, and means of the inputs of layers whose bias is corrected."""
    placement = _placement(graph, settings, context)
    batched = _batched(settings, context)
    wanted = [
        request
        for tensor in placement.tensors
        for request in _own(graph, settings, tensor).estimator.requests(point_of(graph, tensor.source), batched)
    ]
    if settings.correction is Correction.FAST:
        wanted += [bias.mean for bias in biases_of(graph, placement.nodes, context, settings.all_biases, shared=True)]
    return wanted


def layers(graph: Graph, settings: Settings, context: Context) -> Sequence[Node]:
    """The layers that will be quantized."""
    return [node for node in _placement(graph, settings, context).nodes if node.weights]


def transformations(
    graph: Graph, statistics: Statistics, settings: Settings, context: Context
) -> Iterator[Transformation]:
    """Quantizers of activations, integers for weights, and new biases.

    :raises NotFiniteError: when a range is not finite.
    """
    setup = _setup(settings, context)
    placement = _placement(graph, settings, context)
    check(settings.given.overrides, graph)
    if settings.given.mixed_precision is not None and placement.weights:
        wanted = settings.given.mixed_precision
        settings = settings.with_overrides(mixed_precision.overrides(graph, placement, settings, wanted, context))
    if not placement.nodes:
        context.warn(
            f"Nothing is quantized: {placement.empty}. Where size matters more than speed, weights can be compressed "
            "alone: by nncf.compress_weights, or by the command nncf compress-weights."
        )
        return
    if settings.float8 is None and not settings.weights.estimator.symmetric and not setup.weight_zero_points:
        nncf_logger.warning(
            "The runtime computes layers whose weights have zero points in floating point: they get smaller, not "
            "faster. It computes with integers where weights_quantization_params leaves mode out."
        )
    batched = _batched(settings, context)
    quantizers: dict[str, Quantizer] = {}
    for tensor in placement.tensors:
        own = _own(graph, settings, tensor)
        low, high = _ends(graph, statistics, own, tensor, batched)
        quantizer = quantizers[tensor.tensor] = _quantizer(low, high, own, tensor, setup)
        for target in tensor.points:
            yield InsertQuantizer(target, quantizer, f"{target.node}/{target.kind.value}_{target.port}", tensor.reason)
    new_values: dict[str, np.ndarray] = {}
    first = _first_layers(graph, placement)
    description = "Quantizing weights"
    for weight in context.progress.track(placement.weights, description, len(placement.weights)):
        own_settings = settings.of("weights", weight.names)
        if own_settings is None:
            continue
        scheme = own_settings.weights
        half = scheme.bits == 8 and (
            settings.half_range is OverflowFix.ENABLE
            or (settings.half_range is OverflowFix.FIRST_LAYER and weight.users[0][0].name in first)
        )
        pairs = scheme.bits == 8 and settings.half_range is None and setup.sums_of_16_bits
        integers = scheme.integers(half) if half or scheme.bits < 8 else None
        if settings.float8 is not None:
            smallest = None
            if setup.integer_biases:
                shape = weight.constant.shape
                smallest = smallest_scales(graph, weight.users, shape, quantizers, context)
            tensor8 = float8.quantized(weight.constant, weight.layout, settings.float8[1], smallest)
        else:
            tensor8 = quantized(weight.constant, weight.layout, scheme, half, pairs)
        if settings.correction is Correction.FAST:
            error = weight.constant.read().astype(np.float32) - decompress(tensor8, np.float32)
            for edit in _bias_corrections(graph, weight.users, error, statistics, settings, context):
                if isinstance(edit, ReplaceConstant):
                    new_values[edit.constant] = edit.value
                yield edit
        reason = "operand of an integer operator"
        yield CompressConstant(weight.constant.name, tensor8, reason, integer_operand=True, integers=integers)
        weight.constant.release()
    if settings.float8 is None:
        for weight in stored_weights(graph, setup, context, settings.weights.request):
            own_settings = settings.of("weights", weight.names)
            if own_settings is None:
                continue
            scheme = evolve(own_settings.weights, bits=8)
            tensor8 = quantized(weight.constant, weight.layout, scheme)
            reason = f"stored for {weight.users[0][0].op_type}"
            yield CompressConstant(weight.constant.name, tensor8, reason, integer_operand=True)
            weight.constant.release()
    for constant, target in placement.constants:
        values = np.asarray(new_values.get(constant.name, constant.read()), np.float32)
        quantizer = _integers(values.min(), values.max(), settings, settings.symmetric, setup)
        yield InsertQuantizer(target, quantizer, f"{target.node}/input_{target.port}", "constant beside integers")


def _ends(
    graph: Graph, statistics: Statistics, settings: Settings, tensor: QuantizedTensor, batched: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The range of a tensor, and of those that share it."""
    low, high = settings.estimator.ends(statistics, point_of(graph, tensor.source), batched)
    for other in tensor.shared:
        lowest, highest = settings.estimator.ends(statistics, point_of(graph, other), batched)
        low, high = np.minimum(low, lowest), np.maximum(high, highest)
    return low, high


def _bias_corrections(
    graph: Graph,
    users: Sequence[tuple[Node, int]],
    error: np.ndarray,
    statistics: Statistics,
    settings: Settings,
    context: Context,
) -> Iterator[Transformation]:
    shifts: dict[str, list[np.ndarray | None]] = {}
    biases: dict[str, Bias] = {}
    for bias in biases_of(graph, [node for node, _ in users], context, settings.all_biases, shared=True):
        name = bias.node.name if bias.constant is None else bias.constant.name
        biases[name] = bias
        shift = missing(bias, error, statistics[bias.mean]) if bias.mean in statistics else None
        shifts.setdefault(name, []).append(shift)
    for name, bias in biases.items():
        found = [shift for shift in shifts[name] if shift is not None]
        if len(found) == len(shifts[name]):
            # layers that share weight and bias, each with an input of its own, are right on the average
            edit = bias.changed(
                np.mean(found, axis=0), settings.threshold, "corrected by the mean error of the weights"
            )
            yield from () if edit is None else (edit,)


def _placement(graph: Graph, settings: Settings, context: Context) -> Placement:
    setup, request = _setup(settings, context), settings.weights.request
    attention_output = setup.attention_output
    if settings.float8 is not None:
        request = float8.request(settings.float8[1])
        float8.check_weights(graph, setup, context, request)
        attention_output = attention_output or not settings.transformer
    placement = place(
        graph,
        setup,
        context,
        settings.quantize_outputs or setup.whole,
        request=request,
        transformer=settings.transformer,
        attention_output=attention_output,
    )
    return evolve(placement, tensors=tuple(t for t in placement.tensors if _is_wanted(graph, settings, t)))


def _is_wanted(graph: Graph, settings: Settings, tensor: QuantizedTensor) -> bool:
    """Whether the user does not want a tensor left in floating point."""
    if not settings.quantize_inputs and is_input(graph, tensor.source):
        return False
    return settings.of("activations", _points_of(graph, tensor)) is not None


def _own(graph: Graph, settings: Settings, tensor: QuantizedTensor) -> Settings:
    """The settings of a tensor that is quantized."""
    own = settings.of("activations", _points_of(graph, tensor))
    assert own is not None
    return own


def _points_of(graph: Graph, tensor: QuantizedTensor) -> set[str]:
    return {name for point in tensor.points for name in (*graph.node(point.node).names, str(point))}


def _batched(settings: Settings, context: Context) -> bool:
    """Whether an item of the dataset holds several samples."""
    return context.batch_size > 1 if settings.batched is None else settings.batched


def _setup(settings: Settings, context: Context) -> QuantizationSetup:
    setup = context.quantization_setup(settings.device)
    if settings.float8 is not None:
        return float8.setup_of(setup, settings.float8, settings.device)
    if settings.zero_points and not setup.zero_points:
        raise ParameterNotSupportedError(
            f"On target_device {settings.device} activations have no zero points; leave out preset and mode of "
            "activations_quantization_params."
        )
    return setup


def _quantizer(
    low: np.ndarray, high: np.ndarray, settings: Settings, tensor: QuantizedTensor, setup: QuantizationSetup
) -> Quantizer:
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise NotFiniteError(
            f"The tensor {tensor.source!r} holds NaN or infinite values for some items of the dataset; look at the "
            "data, or leave out the nodes that take it with an ignored scope."
        )
    if settings.float8 is not None:
        return floating(low, high, settings.float8[0])
    return _integers(low, high, settings, settings.symmetric or tensor.symmetric, setup)


def _integers(
    low: np.ndarray, high: np.ndarray, settings: Settings, without: bool, setup: QuantizationSetup
) -> Quantizer:
    """The quantizer for a range, as a device wants it.

    :param without: whether without zero point.
    """
    bits, signed = settings.bits, settings.signed
    if not without and setup.zero_points:
        quantizer = asymmetric(low, high, bits)
        return quantizer if not setup.signed else quantizer.signed()
    quantizer = symmetric(low, high, bits, signed=setup.signed or None if signed is None else signed)
    return quantizer.unsigned() if setup.signed is False else quantizer


def _first_layers(graph: Graph, placement: Placement) -> frozenset[str]:
    """Integer layers before which there is no other."""
    layers = {node.name for node in placement.nodes if node.weights}
    behind: set[str] = set()
    first: set[str] = set()
    for node in graph:
        after = any(p.name in behind or p.name in layers for p in graph.predecessors(node))
        if after:
            behind.add(node.name)
        elif node.name in layers:
            first.add(node.name)
    return frozenset(first)
