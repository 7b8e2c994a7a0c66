"""Matrices of transformers whose rows and columns belong together: of heads, and of the channels between two layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from attrs import frozen

from nncf_core.attention import AttentionBlock, attention_blocks
from nncf_core.graph import Graph, Node, OpKind, Port, Trait

_PASSED = frozenset(
    {OpKind.RELU, OpKind.ACTIVATION, OpKind.PERIODIC, OpKind.MULTIPLY, OpKind.SHAPE_ONLY, OpKind.CAST, OpKind.QUANTIZE,
     OpKind.DEQUANTIZE}
)  # fmt: skip
"""Between two layers of a feed-forward block: each channel on its own, and zeros stay zeros or are multiplied by such.

A constant that is added, a bias, is passed, too: what it makes of a removed channel meets zeros of the next layer.
"""


@frozen
class Group:
    """Weights that are cut together.

    :param producers: whose output channels, in units of ``unit``, are kept or removed.
    :param consumer: whose input channels are.
    :param unit: channels of a unit: of a head, or 1.
    :param units: number of units.
    :param of_heads: whether units are heads of attention.
    """

    producers: tuple[str, ...]
    consumer: str
    unit: int
    units: int
    of_heads: bool = False


def groups_in(graph: Graph, masked: Collection[str]) -> list[Group]:
    """Groups in graph order.

    :param masked: names of the matrices that have masks; all of a group must.
    """
    blocks = attention_blocks(graph)
    return [group for node in graph.of_kind([OpKind.MATMUL]) for group in _behind(graph, node, masked, blocks)]


def has_attention(graph: Graph) -> bool:
    """Whether anything looks like attention: a softmax is of use to more than who takes the model's outputs."""
    return bool(graph.of_kind([OpKind.ATTENTION])) or any(
        user.kind is not OpKind.OUTPUT
        for softmax in graph.of_kind([OpKind.SOFTMAX])
        for user in graph.successors(softmax)
    )


def _behind(
    graph: Graph, consumer: Node, masked: Collection[str], blocks: Collection[AttentionBlock]
) -> Iterator[Group]:
    """The group whose input channels a layer has."""
    weight = _weight(graph, consumer)
    if weight is None or weight not in masked:
        return
    region = _region(graph, consumer, frozenset(mask for block in blocks for mask in block.masks))
    if region is None:
        return
    inside, producers = region
    names = [_weight(graph, producer) for producer in producers]
    if not names or any(name is None or name not in masked for name in names) or _leaks(graph, inside, consumer):
        return
    found = tuple(str(name) for name in names)
    heads = [node for node in inside if node.kind in (OpKind.ATTENTION, OpKind.SOFTMAX)]
    channels = graph.constants[weight].shape[1]
    sizes = {graph.constants[name].shape[0] for name in found}
    if sizes != {channels}:
        return
    if not heads:
        if all(_is_channelwise(node) for node in inside if node not in producers):
            yield Group(found, weight, 1, channels)
        return
    size = _head_size(inside, blocks)
    if len(found) == 3 and size is not None and channels % size == 0:
        yield Group(found, weight, size, channels // size, of_heads=True)


def _weight(graph: Graph, node: Node) -> str | None:
    """The matrix of a layer whose axes are outputs and inputs; ``None`` when it has another one, or shares it."""
    if node.kind is not OpKind.MATMUL or len(node.weights) != 1:
        return None
    port = node.weights[0][1]
    assert port.layout is not None
    name = str(port.constant)
    plain = port.layout.channel_axes == (0,) and port.layout.reduction_axes == (1,)
    return name if plain and len(graph.users(name)) == 1 and len(graph.constants[name].shape) == 2 else None


def _region(graph: Graph, consumer: Node, masks: Collection[str]) -> tuple[list[Node], list[Node]] | None:
    """What lies before a layer back to the layers before: those inside, they among them; ``None`` at other sources.

    :param masks: tensors that hide positions from attention, and are not followed.
    """
    inside, producers, seen = list[Node](), list[Node](), set[str]()
    waiting = [port for port in consumer.inputs if port.constant is None]
    while waiting:
        port = waiting.pop()
        node = graph.producer(port.tensor)
        if node is None:
            return None
        if node.name in seen:
            continue
        seen.add(node.name)
        inside.append(node)
        if Trait.WEIGHTED in node.traits and node.weights:
            producers.append(node)
        elif node.kind in (OpKind.LAYER_NORM, OpKind.NORMALIZATION, OpKind.BATCH_NORM, OpKind.OTHER):
            return None
        else:
            waiting += [
                other
                for other in node.inputs
                if other.constant is None and other.tensor not in masks and not _is_mask(node, other)
            ]
    order = {node.name: index for index, node in enumerate(graph)}
    return inside, sorted(producers, key=lambda node: order[node.name])


def _is_mask(node: Node, port: Port) -> bool:
    """Whether an operand is one that hides positions from attention."""
    return node.kind is OpKind.ATTENTION and port in node.inputs[3:]


def _leaks(graph: Graph, inside: list[Node], consumer: Node) -> bool:
    """Whether somebody outside takes what is inside."""
    names = {node.name for node in inside} | {consumer.name}
    return any(
        port.tensor in graph.outputs or any(user.name not in names for user in graph.consumers(port.tensor))
        for node in inside
        for port in node.outputs
    )


def _is_channelwise(node: Node) -> bool:
    if node.kind is OpKind.ADD:
        return sum(port.constant is None for port in node.inputs) == 1
    return node.kind in _PASSED


def _head_size(inside: list[Node], blocks: Collection[AttentionBlock]) -> int | None:
    """Channels of a head: the last dimension of queries, and of what attention gives."""
    names = {node.name for node in inside}
    ends = [(node, node) for node in inside if node.kind is OpKind.ATTENTION]
    ends += [(block.scores, block.values) for block in blocks if block.values.name in names]
    sizes = {shape[-1] for first, last in ends for shape in (first.inputs[0].shape, last.outputs[0].shape) if shape}
    return sizes.pop() if len(sizes) == 1 else None
