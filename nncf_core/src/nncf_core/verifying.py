"""Parts of a compressed model against what our own arithmetic makes of their inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import ml_dtypes  # noqa: F401 - registers the low-bit dtypes' names with numpy
import numpy as np
from attrs import frozen

from nncf_core.errors import ValidationError
from nncf_core.graph import FLOAT_DTYPES, Constant, Graph, Node, OpKind, Port, Trait
from nncf_core.memory import free_memory
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.neighbours import LARGEST_SUM, neighbour_sums
from nncf_core.products import by_arithmetic
from nncf_core.progress import Progress
from nncf_core.running import Look
from nncf_core.transformations import InsertQuantizer, PointKind, ReplaceConstant, TargetPoint

_LAYERS = 48
"""Layers that are looked at in one run."""

_WEIGHTS = 256 << 20
"""Bytes of their weights, as float32."""

_ALL_WEIGHTS = 256 << 20
"""Bytes of the weights of all layers that are looked at; of larger models some layers are, evenly spread."""

_TIMES = 3
"""How many times its weights, as float32, a layer takes when it is checked."""

_BESIDES = 64 << 20
"""Bytes that runtimes and libraries take besides."""

_ROWS = 4
"""Length of axes that may have any, of random numbers."""

_MARGIN = 8
"""How many times more than one rounding, or than what a sum's roundings come to, a layer may be off."""

_AT_TIES = 0.02
"""Share of a tensor that may lie so near to the middle between two levels that a runtime takes the other."""

_ROUNDED = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half the distance of numbers of 16 bits from 1."""


@frozen(eq=False)
class Layer:
    """A layer that is looked at.

    :param inputs: points of what it is given besides constants.
    :param output: point of what it gives.
    :param weights: its compressed constants.
    """

    node: Node
    inputs: tuple[TargetPoint, ...]
    output: TargetPoint
    weights: tuple[Constant, ...]

    @property
    def points(self) -> tuple[TargetPoint, ...]:
        """Where it is looked at."""
        return (*self.inputs, self.output)


_SATURATES = (
    ". Sums of two neighbouring products of its codes do not fit into 16 bits, where processors without VNNI add them: "
    "leave out overflow_fix, or set it to enable"
)


def _leaves_no_room(weight: Constant) -> bool:
    """Whether two neighbouring 8-bit codes, each times 255, exceed 16 bits."""
    if weight.compressed_format != "int8" or weight.compressed is None:
        return False
    tensor = weight.compressed()
    if not tensor.reduction_axes:
        return False
    codes = tensor.codes.view(np.int8).reshape(tensor.shape).astype(np.int16)
    return bool((neighbour_sums(codes, tensor.reduction_axes[0]) > LARGEST_SUM).any())


class UncheckedError(Exception):
    """Why a check could not be made."""


def check_layers(look: Look, layers: Sequence[Layer], total: int, progress: Progress) -> tuple[str | None, str]:
    """What is wrong with the first layer that is off, and what was found.

    A layer is computed by itself on what it was given in the model, with floating-point weights in place of its codes.

    :param look: at the model. Without items, which spares memory, layers are given random numbers.
    :param layers: those of :func:`chosen_layers`.
    :param total: how many there are.
    :raises UncheckedError: when no layer can be checked.
    """
    on_random = not look.items
    chosen = [layer for layer in layers if not on_random or _random(layer) is not None]
    chunks = list(_chunks(chosen))
    worst, large, overflown = 0.0, 0, set[str]()
    for chunk in progress.track(chunks, "Verifying layers", len(chunks)):
        # runtimes, and libraries of linear algebra, do not always live to say that there is no memory
        if _TIMES * sum(map(_bytes, chunk)) + _BESIDES > free_memory():
            large += len(chunk)
            continue
        points = list(dict.fromkeys(point for layer in chunk for point in layer.points))
        seen = [_on_random(look, chunk)] if on_random else look.at(points)
        for layer, given, alone in _run_alone(look, chunk, seen):
            if not (_finite(alone.output) and all(_finite(given[point]) for point in layer.inputs)):
                # such as the original's own, which the run of the whole model tells
                overflown.add(layer.node.name)
                continue
            size, tolerance = _deviation(layer, given, alone)
            if not size <= tolerance:
                return (
                    f"the layer {layer.node.name!r} gives other numbers than with the weights that its codes stand "
                    f"for: {size:.2g} of their size, {tolerance:.2g} is what rounding may do"
                    + (_SATURATES if any(map(_leaves_no_room, layer.weights)) else ""),
                    "off",
                )
            worst = max(worst, size)
    if not chosen:
        return None, ""
    made = len(chosen) - large - len(overflown)
    left = "".join(
        f"; {count} {why}"
        for count, why in (
            (large, "too large for the memory that is free"),
            (len(overflown), "with NaN or infinite numbers"),
        )
        if count
    )
    if not made:
        raise UncheckedError(left.removeprefix("; "))
    count = f"{made} layers" if made == total else f"{made} of {total} layers"
    where = " on random inputs" if on_random else ""
    found = f"{count} give what they give with the weights that their codes stand for{where}, up to {worst:.1g}"
    return None, f"{found}{left and ' (not checked: ' + left.removeprefix('; ') + ')'}"


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind not in "fV" or bool(np.isfinite(array.astype(np.float32)).all())


def layers_of(graph: Graph) -> list[Layer]:
    """Layers of the main graph with a compressed weight, that have one output of floating-point numbers."""
    found = []
    for node in graph:
        weights = [graph.constants[port.constant] for _, port in node.weights if port.constant]
        weights = [constant for constant in weights if constant.compressed is not None]
        if Trait.WEIGHTED not in node.traits or node.kind is OpKind.RECURRENT or node.scope or not weights:
            continue
        inputs = tuple(
            TargetPoint(node.name, PointKind.INPUT, index)
            for index, port in enumerate(node.inputs)
            if port.tensor and port.constant is None
        )
        # rows of a table of codes are codes: floats come from the operators behind
        if inputs and node.outputs and node.outputs[0].dtype in (None, *FLOAT_DTYPES):
            found.append(Layer(node, inputs, TargetPoint(node.name), tuple(weights)))
    return found


def _bytes(layer: Layer) -> int:
    return 4 * sum(constant.size for constant in layer.weights)


def chosen_layers(layers: Sequence[Layer]) -> list[Layer]:
    """All layers, or some of them, evenly spread and with the last, whose weights are not too many."""
    total = sum(map(_bytes, layers))
    step = max(math.ceil(total / _ALL_WEIGHTS), 1)
    return list(reversed(layers[::-1][::step]))


def _chunks(layers: Iterable[Layer]) -> Iterator[list[Layer]]:
    chunk: list[Layer] = []
    most = min(_WEIGHTS, free_memory() / 6)
    for layer in layers:
        if chunk and (len(chunk) == _LAYERS or sum(map(_bytes, chunk)) + _bytes(layer) > most):
            yield chunk
            chunk = []
        chunk.append(layer)
    if chunk:
        yield chunk


def _random(layer: Layer) -> dict[TargetPoint, np.ndarray] | None:
    """Random numbers for a layer; ``None`` where nothing is known of what it takes."""
    weight, port = layer.weights[0], layer.node.inputs[layer.inputs[0].port]
    shape: tuple[int, ...] | None = None
    if port.shape is not None:
        shape = tuple(_ROWS if size is None else size for size in port.shape)
    elif layer.node.kind is OpKind.MATMUL and len(weight.shape) == 2:
        place = next(port for _, port in layer.node.weights if port.constant == weight.name)
        shape = (_ROWS, _terms(place, weight))
    if shape is None or len(layer.inputs) > 1 or layer.node.kind is OpKind.EMBEDDING:
        return None
    dtype = np.dtype(port.dtype or weight.dtype)
    return {layer.inputs[0]: np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)}


def _on_random(look: Look, layers: Sequence[Layer]) -> dict[TargetPoint, np.ndarray]:
    """What layers of a model are given, and what they give, each by itself."""
    given: dict[TargetPoint, np.ndarray] = {}
    for layer in layers:
        given |= _random(layer) or {}
    inserter = look.backend.inserter
    part = inserter.extract(look.model, list(given), [layer.output for layer in layers])
    found = inserter.runner(part)({str(point): array for point, array in given.items()})
    return {**given, **{layer.output: found[str(layer.output)] for layer in layers}}


def _run_alone(
    look: Look, layers: Sequence[Layer], seen: Sequence[dict[TargetPoint, np.ndarray]]
) -> Iterator[tuple[Layer, dict[TargetPoint, np.ndarray], _Alone]]:
    """Each layer with the tensors around it in the model, and with what it gives alone.

    Runtimes take long to load what plain arithmetic does in no time; they run what that does not know.
    """
    found = [dict[Layer, _Alone]() for _ in seen]
    rest = []
    for layer in layers:
        weight = layer.weights[0]
        values = _values(weight)
        size = _rms(values)
        simple = len(layer.inputs) == len(layer.weights) == 1
        for arrays, results in zip(seen, found, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):
                given = by_arithmetic(layer.node, weight, values, arrays) if simple else None
            if given is not None:
                results[layer] = _Alone(given, size)
        if any(layer not in results for results in found):
            rest.append((layer, size))
    if rest:
        ran = _in_runtime(look, [layer for layer, _ in rest], seen)
        for results, outputs in zip(found, ran, strict=True):
            results.update({layer: _Alone(array, size) for (layer, size), array in zip(rest, outputs, strict=True)})
    for arrays, results in zip(seen, found, strict=True):
        for layer in layers:
            yield layer, arrays, results[layer]


@frozen
class _Alone:
    """A layer by itself.

    :param output: what it gives.
    :param size: the usual size of its weights.
    """

    output: np.ndarray
    size: float


def _in_runtime(
    look: Look, layers: Sequence[Layer], seen: Sequence[dict[TargetPoint, np.ndarray]]
) -> Iterator[list[np.ndarray]]:
    """For each item, what layers give that a runtime runs with floating-point weights."""
    inserter = look.backend.inserter
    starts = [point for layer in layers for point in layer.inputs]
    part = inserter.extract(look.model, starts, [layer.output for layer in layers])
    graph = look.backend.builder.build(part)
    names = {constant.name: constant for layer in layers for constant in layer.weights}
    edits = (ReplaceConstant(name, _values(constant)) for name, constant in names.items() if name in graph.constants)
    run = inserter.runner(inserter.apply(part, graph, edits, {}))
    for arrays in seen:
        outputs = run({str(point): arrays[point] for point in starts})
        yield [outputs[str(layer.output)] for layer in layers]


def _values(constant: Constant) -> np.ndarray:
    assert constant.compressed is not None
    values = decompress(constant.compressed())
    constant.release()
    return values


def _deviation(layer: Layer, arrays: dict[TargetPoint, np.ndarray], alone: _Alone) -> tuple[float, float]:
    """How far off a layer is, against the size of what it gives or of what it adds up, and how far it may be.

    Sums of K products, each rounded to a relative ``eps``, are off by about ``eps·√K`` of their usual size.
    """
    given = arrays[layer.output].astype(np.float64)
    expected = alone.output.astype(np.float64)
    if given.shape != expected.shape:
        return math.inf, 0.0
    size = max(_rms(expected), _summed(layer, arrays, alone.size))
    off = given - expected
    deviation = max(_rms(off), float(np.abs(off).max(initial=0.0)) / 16) / max(size, 1e-30)
    port = layer.node.inputs[next(index for index, port in enumerate(layer.node.inputs) if port.constant)]
    terms = _terms(port, layer.weights[0])
    return deviation, _MARGIN * max(_eps(layer, arrays), 2.0**-24 * math.sqrt(terms))


def _summed(layer: Layer, arrays: dict[TargetPoint, np.ndarray], size: float) -> float:
    """The usual size of a sum of products of activations and weights, of layers that add up."""
    given = arrays[layer.inputs[0]]
    if layer.node.kind is OpKind.EMBEDDING or given.dtype.kind != "f" or len(layer.inputs) > 1:
        return 0.0
    weight = layer.weights[0]
    port = next(port for _, port in layer.node.weights if port.constant == weight.name)
    return _rms(given) * size * math.sqrt(_terms(port, weight))


def _terms(port: Port, weight: Constant) -> int:
    if port.layout is None:
        return 1
    return math.prod(weight.shape[axis] for axis in port.layout.reduction_axes if axis < len(weight.shape))


def _eps(layer: Layer, arrays: dict[TargetPoint, np.ndarray]) -> float:
    """Half the distance of the coarsest numbers that take part, from 1."""
    types = [arrays[layer.output].dtype.name, *(constant.dtype for constant in layer.weights)]
    for constant in layer.weights:
        assert constant.compressed is not None
        types.append(constant.compressed().scale.dtype.name)
    bits = layer.node.attributes.get("activation_bits")
    rounded = 2.0**-bits if isinstance(bits, int) else 0.0
    return max(rounded, *(_ROUNDED.get(name, 2.0**-24) for name in types))


def _rms(values: np.ndarray) -> float:
    flat = values.reshape(-1)
    # no copy in double precision
    return math.sqrt(float(np.einsum("i,i->", flat, flat, dtype=np.float64)) / flat.size) if flat.size else 0.0


@frozen
class Place:
    """A quantizer in a model.

    :param before: where a tensor goes in.
    :param after: where it comes out.
    """

    edit: InsertQuantizer
    before: TargetPoint
    after: TargetPoint


def check_quantizers(look: Look, places: Sequence[Place], total: int) -> tuple[str | None, str]:
    """What is wrong with the first quantizer that is off, and what was found.

    :param places: those of :func:`places_of`.
    :param total: how many quantizers there should be.
    """
    for first in range(0, len(places), _LAYERS):
        some = places[first : first + _LAYERS]
        points = list(dict.fromkeys(point for place in some for point in (place.before, place.after)))
        for arrays in look.at(points):
            for place in some:
                fault = _fault(place.edit, arrays[place.before], arrays[place.after])
                if fault is not None:
                    return f"the quantizer at {place.edit.target} {fault}", "off"
    if not places:
        raise ValidationError(f"none of {total} quantizers is a node of its own")
    count = f"{len(places)} quantizers" if len(places) == total else f"{len(places)} of {total} quantizers"
    return None, f"{count} give the levels that they should"


def places_of(graph: Graph, edits: Iterable[InsertQuantizer]) -> list[Place]:
    """Where quantizers are in a model, as far as they are nodes of their own."""
    found = [(edit, _place(graph, edit.target)) for edit in edits if edit.target.node in graph]
    return [Place(edit, *points) for edit, points in found if points is not None]


def _place(graph: Graph, target: TargetPoint) -> tuple[TargetPoint, TargetPoint] | None:
    """Where a tensor goes into a quantizer, and where it comes out; ``None``: it is not a node of its own."""
    node = graph.node(target.node)
    first: Node | None
    last: Node | None
    if target.kind is PointKind.OUTPUT:
        tensor = node.outputs[target.port].tensor if target.port < len(node.outputs) else ""
        first = next((user for user in _users(graph, tensor) if user.kind is OpKind.QUANTIZE), None)
        after = () if first is None else graph.consumers(first.outputs[0].tensor)
        last = next((user for user in after if user.kind is OpKind.DEQUANTIZE), first)
    else:
        last = graph.producer(node.inputs[target.port].tensor)
        if last is not None and last.kind is OpKind.CAST:
            last = graph.producer(last.inputs[0].tensor)
        before = last is not None and last.kind is OpKind.DEQUANTIZE
        first = graph.producer(last.inputs[0].tensor) if last is not None and before else last
    if first is None or last is None or first.kind is not OpKind.QUANTIZE:
        return None
    return TargetPoint(first.name, PointKind.INPUT, 0), TargetPoint(last.name)


def _users(graph: Graph, tensor: str) -> Iterator[Node]:
    """Nodes that take a tensor, as it is or in another element type."""
    for user in graph.consumers(tensor):
        yield user
        if user.kind is OpKind.CAST:
            yield from graph.consumers(user.outputs[0].tensor)


def _fault(edit: InsertQuantizer, before: np.ndarray, after: np.ndarray) -> str | None:
    """What is wrong with what a quantizer gives."""
    quantizer = edit.quantizer
    try:
        expected = quantizer.apply(before.astype(np.float32))
    except (ValueError, ValidationError) as error:
        return f"does not fit its tensor: {error}"
    if expected.shape != after.shape:
        return f"gives the shape {after.shape} for {before.shape}"
    # of 8-bit floats levels lie further apart the larger they are
    step = np.float32(np.max(quantizer.scale))
    steps = np.maximum(step, np.abs(expected) / 4) if quantizer.float8 else step
    off = np.abs(after.astype(np.float32) - expected)
    # ranges, levels and the tensor itself may be numbers of 16 bits
    slack = np.float32(3 * _ROUNDED.get(after.dtype.name, 0.0) * max(np.abs(quantizer.low).max(), quantizer.high.max()))
    if (off > 1.01 * steps + slack).any():
        return f"gives {off.max():.3g} more or less than it should, its step is {step:.3g}"
    share = float((off > 0.01 * steps + slack).mean())
    # of few elements a larger share may be there by chance: three standard deviations
    most = _AT_TIES + min(float(slack / step), 0.5)
    most += 3 * math.sqrt(most / max(off.size, 1))
    return f"takes another level for {100 * share:.0f} % of its tensor" if share > most else None
