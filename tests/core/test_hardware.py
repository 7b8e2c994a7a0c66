"""Which layers are large enough for integers."""

import pytest

from nncf_core.graph import Node, OpKind, Port, WeightLayout
from nncf_core.hardware import LayerSize, LeastSize, OperatorSetup, QuantizationSetup, size_of


def layer(kind: OpKind, layout: WeightLayout, groups: int = 1) -> Node:
    ports = (Port("x"), Port("w", constant="w", layout=layout))
    return Node("layer", "Layer", kind, ports, (Port("y"),), attributes={"group": groups})


CONV = WeightLayout((1, 2, 3), (0,))


@pytest.mark.parametrize(
    ("node", "shape", "size", "products"),
    [
        (layer(OpKind.CONV, CONV), (32, 16, 3, 3), LayerSize(16, 144, 32), 96),
        (layer(OpKind.CONV, CONV, groups=4), (32, 16, 1, 1), LayerSize(16, 16, 8), 128 / 24),
        # depthwise: in ONNX's layout, and with an axis of groups
        (layer(OpKind.CONV, CONV, groups=32), (32, 1, 3, 3), LayerSize(1, 9, 1), 4.5),
        (layer(OpKind.CONV, WeightLayout((2, 3, 4), (1,), (0,))), (32, 1, 1, 3, 3), LayerSize(1, 9, 1), 4.5),
        (layer(OpKind.MATMUL, WeightLayout((0,), (1,))), (64, 64), LayerSize(64, 64, 64), 32),
    ],
)
def test_sizes(node: Node, shape: tuple[int, ...], size: LayerSize, products: float) -> None:
    assert size_of(node, shape) == size
    assert size.products_per_element == pytest.approx(products)


def test_layers_that_are_too_small_in_any_respect() -> None:
    least = LeastSize(channels=8, outputs=16, products_per_element=12)
    setup = QuantizationSetup({"Layer": OperatorSetup(least=least)})
    shapes = {(32, 32, 1, 1): True, (32, 4, 3, 3): False, (8, 32, 3, 3): False, (16, 32, 1, 1): False}
    for shape, pays in shapes.items():
        assert setup.pays(layer(OpKind.CONV, CONV), shape) is pays
    assert QuantizationSetup({"Layer": OperatorSetup()}).pays(layer(OpKind.CONV, CONV), (1, 1, 1, 1))
