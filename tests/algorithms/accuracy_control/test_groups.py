"""Which edits go together."""

from __future__ import annotations

import numpy as np

from nncf_accuracy_control.groups import count, groups_of
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, WeightLayout
from nncf_core.hardware import OperatorSetup, QuantizationSetup
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.quantizer import symmetric
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import (
    CompressConstant,
    InsertBias,
    InsertQuantizer,
    PointKind,
    ReplaceConstant,
    TargetPoint,
)

SETUP = QuantizationSetup(
    {
        "MatMul": OperatorSetup(needs_weight=True, needs_result=True),
        "Add": OperatorSetup(only_between=True),
        "Multiply": OperatorSetup(only_between=True),
    }
)
WEIGHT = np.ones((4, 4), np.float32)


def constant(name: str) -> Constant:
    return Constant(name, "float32", (4, 4), lambda: WEIGHT)


def layer(name: str, taken: str, weight: str, bias: str | None = None) -> Node:
    ports = [Port(taken, "float32"), Port(weight, "float32", (4, 4), weight, WeightLayout((0,), (1,)))]
    ports += [] if bias is None else [Port(bias, "float32", (4,), bias)]
    return Node(name, "MatMul", OpKind.MATMUL, tuple(ports), (Port(f"{name}.y", "float32"),))


def node(name: str, kind: OpKind, *taken: str) -> Node:
    ports = tuple(Port(tensor, "float32") for tensor in taken)
    return Node(name, kind.value, kind, ports, (Port(f"{name}.y", "float32"),))


def graph(*nodes: Node) -> Graph:
    names = {port.constant for n in nodes for port in n.inputs if port.constant}
    given = node("x", OpKind.INPUT)
    return Graph("toy", (given, *nodes), {name: constant(name) for name in sorted(names)})


def at_output(name: str) -> InsertQuantizer:
    return InsertQuantizer(TargetPoint(name), symmetric(np.float32(-1), np.float32(1)))


def at_input(name: str, port: int = 0) -> InsertQuantizer:
    return InsertQuantizer(TargetPoint(name, PointKind.INPUT, port), symmetric(np.float32(-1), np.float32(1)))


def stored(name: str) -> CompressConstant:
    codes, scale = np.ones((4, 4), np.int8), np.ones((1, 4), np.float32)
    tensor = CompressedTensor(
        format=FORMATS["int8"], codes=codes.reshape(-1).view(np.uint8), scale=scale, shape=(4, 4), zero_point=None,
        dtype="float32", reduction_axes=(0,),
    )  # fmt: skip
    return CompressConstant(name, tensor, integer_operand=True)


def sets(made: Graph, edits: list) -> list[tuple]:
    return [(g.quantizers, g.weights, g.biases, g.nodes) for g in groups_of(made, edits, SETUP)]


def test_a_layer_goes_with_its_weight_and_its_bias() -> None:
    made = graph(layer("a", "x.y", "w", "b"), layer("c", "a.y", "v"))
    edits = [
        at_output("x"),
        ReplaceConstant("b", WEIGHT[0]),
        stored("w"),
        at_output("a"),
        InsertBias("c", WEIGHT[0]),
        stored("v"),
    ]
    assert sets(made, edits) == [((0,), (2,), (1,), ("a",)), ((3,), (5,), (4,), ("c",))]
    groups = groups_of(made, edits, SETUP)
    assert groups[0].reverted(True) == {0, 1, 2}
    assert groups[0].reverted(False) == {0}  # what makes up for errors of weights stays with them
    assert count(edits) == 4


def test_a_bias_that_is_added_behind_a_layer() -> None:
    plus = Node("plus", "Add", OpKind.ADD, (Port("a.y", "float32"), Port("b", "float32", (4,), "b")), (Port("z"),))
    assert sets(
        graph(layer("a", "x.y", "w"), plus), [at_output("x"), ReplaceConstant("b", WEIGHT[0]), stored("w")]
    ) == [((0,), (2,), (1,), ("a",))]


def test_operands_of_one_operator_go_together_through_what_only_moves_elements() -> None:
    made = graph(
        layer("a", "x.y", "w"), node("flat", OpKind.SHAPE_ONLY, "a.y"), node("sum", OpKind.ADD, "flat.y", "x.y"),
        layer("c", "sum.y", "v"),
    )  # fmt: skip
    edits = [at_output("x"), stored("w"), at_output("a"), at_output("sum"), stored("v")]
    # x feeds the layer and the sum, the layer's result feeds the sum; the sum's own result is another's operand
    assert sets(made, edits) == [((0, 2), (1,), (), ("a", "sum")), ((3,), (4,), (), ("c",))]


def test_the_same_range_on_both_sides_of_what_moves_elements() -> None:
    made = graph(node("pool", OpKind.MAX_POOL, "x.y"), layer("a", "pool.y", "w"))
    assert sets(made, [at_output("x"), at_output("pool"), stored("w")]) == [((0, 1), (2,), (), ("a",))]


def test_quantizers_at_inputs_are_those_of_one_operator() -> None:
    made = graph(layer("a", "x.y", "w"), layer("c", "x.y", "v"))
    edits = [at_input("a"), stored("w"), at_input("c"), stored("v")]
    assert sets(made, edits) == [((0,), (1,), (), ("a",)), ((2,), (3,), (), ("c",))]
    # one that both take is one
    assert len(sets(made, [at_output("x"), stored("w"), stored("v")])) == 1


def test_a_result_that_only_floats_take_belongs_to_the_operator_that_gives_it() -> None:
    made = graph(layer("a", "x.y", "w"), node("relu", OpKind.RELU, "a.y"), node("soft", OpKind.SOFTMAX, "relu.y"))
    edits = [at_output("x"), stored("w"), at_output("relu")]
    assert sets(made, edits) == [((0, 2), (1,), (), ("a", "soft"))]


def test_shared_weights_and_weights_alone() -> None:
    made = graph(
        layer("a", "x.y", "w"), node("relu", OpKind.RELU, "a.y"), layer("c", "relu.y", "w"), layer("d", "c.y", "v")
    )
    edits = [at_output("x"), at_output("relu"), stored("w"), stored("v")]
    assert sets(made, edits) == [((0, 1), (2,), (), ("a", "c")), ((), (3,), (), ("d",))]


def test_what_looks_at_the_shape_takes_nothing() -> None:
    made = graph(layer("a", "x.y", "w"), node("shape", OpKind.SHAPE_OF, "x.y"))
    assert sets(made, [at_output("x"), stored("w")]) == [((0,), (1,), (), ("a",))]
