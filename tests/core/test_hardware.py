"""Which layers are large enough for integers."""

import pytest

from nncf_core.graph import Node, OpKind, Port, WeightLayout
from nncf_core.hardware import LayerSize, LeastSize, OperatorSetup, QuantizationSetup, size_of


def layer(
    kind: OpKind, layout: WeightLayout, groups: int = 1, result: tuple[int | None, ...] | None = (2, 1, 7, 5)
) -> Node:
    ports = (Port("x"), Port("w", constant="w", layout=layout))
    return Node("layer", "Layer", kind, ports, (Port("y", shape=result),), attributes={"group": groups})


CONV = WeightLayout((1, 2, 3), (0,))


@pytest.mark.parametrize(
    ("node", "shape", "size", "products"),
    [
        (layer(OpKind.CONV, CONV), (32, 16, 3, 3), LayerSize(16, 144, 32, 70), 96),
        (layer(OpKind.CONV, CONV, groups=4), (32, 16, 1, 1), LayerSize(16, 16, 8, 70), 128 / 24),
        # depthwise: in ONNX's layout, and with an axis of groups
        (layer(OpKind.CONV, CONV, groups=32), (32, 1, 3, 3), LayerSize(1, 9, 1, 70), 4.5),
        (layer(OpKind.CONV, WeightLayout((2, 3, 4), (1,), (0,))), (32, 1, 1, 3, 3), LayerSize(1, 9, 1, 70), 4.5),
        (layer(OpKind.MATMUL, WeightLayout((0,), (1,))), (64, 64), LayerSize(64, 64, 64, 14), 32),
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


@pytest.mark.parametrize(
    ("kind", "result", "positions"),
    [
        (OpKind.CONV, (None, 32, 9, None), 9 * 16),
        (OpKind.CONV, None, 16 * 16),
        (OpKind.MATMUL, (None, 64), 1),
        (OpKind.MATMUL, (3, None, 64), 3 * 16),
        (OpKind.MATMUL, None, 16),
    ],
)
def test_axes_of_unknown_length(kind: OpKind, result: tuple[int | None, ...] | None, positions: int) -> None:
    convolution = kind is OpKind.CONV
    node = layer(kind, CONV if convolution else WeightLayout((0,), (1,)), result=result)
    assert size_of(node, (32, 16, 3, 3) if convolution else (64, 64)).positions == positions


def test_a_layer_makes_up_for_what_integers_cost() -> None:
    least = LeastSize(products_per_element=10, beside_float=20, products=5000)
    # 16 · 16 products of 32 elements at each position
    assert not least.allows(LayerSize(16, 16, 16, 10**6))
    assert least.allows(LayerSize(16, 64, 16, 10))  # 64 · 16 - 10 · 32 = 704
    assert not least.allows(LayerSize(16, 64, 16, 7))
    assert least.allows(LayerSize(16, 64, 16, 100), 1)
    assert not least.allows(LayerSize(16, 64, 16, 100), 2)
    assert LeastSize(products=3000, positions=4).allows(LayerSize(32, 32, 32, 1))
    assert not LeastSize(products=3000).allows(LayerSize(32, 32, 32, 1))


def test_narrow_layers_take_more_products() -> None:
    least = LeastSize(products_per_element=10, wide=(8, 16), narrow_products_per_element=100)
    assert least.allows(LayerSize(8, 72, 16))  # 48 for each element
    assert not least.allows(LayerSize(8, 72, 15))
    assert not least.allows(LayerSize(7, 63, 16))
    assert least.allows(LayerSize(8, 936, 8))
