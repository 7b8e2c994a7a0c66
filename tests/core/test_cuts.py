"""Graphs cut in parts."""

from nncf_core.cuts import model_inputs, parts_of
from nncf_core.graph import Graph, Node, OpKind, Port
from nncf_core.transformations import PointKind, TargetPoint


def node(name, inputs, outputs=None, kind=OpKind.OTHER):
    return Node(name, name, kind, tuple(map(Port, inputs)), tuple(map(Port, outputs or [f"{name}_out"])))


def chain():
    """Two layers behind norms, each added to what came in; a mask of the model's own enters both."""
    return Graph(
        "toy",
        [
            node("norm0", ["x"]),
            node("layer0", ["norm0_out", "mask"]),
            node("add0", ["x", "layer0_out"]),
            node("norm1", ["add0_out"]),
            node("layer1", ["norm1_out", "mask"]),
            node("add1", ["add0_out", "layer1_out"]),
            node("head", ["add1_out"]),
        ],
    )


def test_a_part_for_each_tensor():
    parts = parts_of(chain(), {"norm0_out": 10, "norm1_out": 10, "add1_out": 10}, 0)
    assert [part.tensors for part in parts] == [("norm0_out",), ("norm1_out",), ("add1_out",)]
    assert [part.nodes for part in parts] == [{"norm0"}, {"layer0", "add0", "norm1"}, {"layer1", "add1"}]
    first, second, third = parts
    assert first.kept == {"norm0_out", "x", "mask"}
    assert second.starts == {
        TargetPoint("layer0", PointKind.INPUT, 0): "norm0_out",
        TargetPoint("layer0", PointKind.INPUT, 1): "mask",
        TargetPoint("add0", PointKind.INPUT, 0): "x",
    }
    assert set(second.ends.values()) == {"norm1_out", "add0_out"}
    assert second.kept == {"norm1_out", "add0_out", "mask"}
    assert third.kept == frozenset()


def test_what_nobody_looks_at_is_left_out():
    (part,) = parts_of(chain(), {"norm0_out": 10}, 0)
    assert part.nodes == {"norm0"}


def test_as_much_as_fits():
    sizes = {"norm0_out": 10, "norm1_out": 10, "add1_out": 10}
    assert [part.tensors for part in parts_of(chain(), sizes, 20)] == [("norm0_out", "norm1_out"), ("add1_out",)]
    assert len(parts_of(chain(), sizes, 30)) == 1
    assert len(parts_of(chain(), sizes, 5)) == 3


def test_an_input_that_is_looked_at_needs_nothing_to_run():
    first, second = parts_of(chain(), {"x": 10, "norm1_out": 10}, 0)
    assert not first.nodes
    assert not first.ends
    assert first.kept == {"x", "mask"}
    assert {"norm0", "layer0"} <= second.nodes


def test_tensors_of_one_node_are_looked_at_together():
    graph = Graph("toy", [node("split", ["x"], ["a", "b"]), node("left", ["a"]), node("right", ["b"])])
    (part,) = parts_of(graph, {"a": 10, "b": 10}, 0)
    assert part.tensors == ("a", "b")


def test_inputs_of_the_model():
    points = model_inputs(chain())
    assert points == {
        "x": TargetPoint("norm0", PointKind.INPUT, 0),
        "mask": TargetPoint("layer0", PointKind.INPUT, 1),
    }
    with_nodes = Graph("toy", [node("p", [], ["x"], OpKind.INPUT), node("layer", ["x"])])
    assert model_inputs(with_nodes) == {"x": TargetPoint("layer", PointKind.INPUT, 0)}
