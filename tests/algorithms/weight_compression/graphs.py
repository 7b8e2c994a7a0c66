"""Graphs made by hand, so that the algorithm is tested without any backend."""

from collections.abc import Sequence

import numpy as np

from nncf_core.graph import Constant, Graph, Node, OpKind, Port, WeightLayout

MATMUL = WeightLayout(reduction_axes=(0,), channel_axes=(1,))
ROWS = WeightLayout(reduction_axes=(1,), channel_axes=(0,))
CONV = WeightLayout(reduction_axes=(1, 2, 3), channel_axes=(0,))


def constant(name: str, array: np.ndarray) -> Constant:
    return Constant(name, array.dtype.name, array.shape, lambda: array, stored_bytes=array.nbytes)


def weighted(
    name: str,
    weight: str,
    kind: OpKind = OpKind.MATMUL,
    layout: WeightLayout = MATMUL,
    scope: Sequence[str] = (),
) -> Node:
    inputs = (Port(f"{name}.in"), Port(weight, constant=weight, layout=layout))
    return Node(name, kind.value, kind, inputs, (Port(f"{name}.out"),), tuple(scope))


def graph(nodes: Sequence[Node], arrays: dict[str, np.ndarray]) -> Graph:
    return Graph("by hand", tuple(nodes), {name: constant(name, array) for name, array in arrays.items()})


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def language_model(channels: int = 64, layers: int = 4, tied: bool = False) -> Graph:
    """An embedding, equal matrix multiplications and a head."""
    nodes = [weighted("embed", "table", OpKind.EMBEDDING, ROWS)]
    arrays = {"table": random(100, channels)}
    for index in range(layers):
        nodes.append(weighted(f"layer{index}", f"w{index}"))
        # later layers have larger weights, so a larger INT8 error
        arrays[f"w{index}"] = random(channels, channels, seed=index + 1, scale=2.0**index)
    if tied:
        nodes.append(weighted("head", "table", layout=ROWS))
    else:
        nodes.append(weighted("head", "head.w"))
        arrays["head.w"] = random(channels, 100, seed=99)
    return graph(nodes, arrays)
