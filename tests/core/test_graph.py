"""The neutral graph: queries, and what it refuses."""

import numpy as np
import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from nncf_core.contracts import is_excluded
from nncf_core.errors import ValidationError
from nncf_core.graph import FLOAT_DTYPES, Constant, Graph, Node, OpKind, Port, Trait, WeightLayout, traits_of
from nncf_core.report import weight_constants
from nncf_core.transformations import PointKind, TargetPoint


def constant(name, dtype="float32", shape=(4, 4), **fields):
    return Constant(name, dtype, shape, lambda: np.zeros(shape, dtype), **fields)


def node(name, inputs=(), outputs=(), kind=OpKind.OTHER, **fields):
    return Node(name, kind.value, kind, tuple(map(port, inputs)), tuple(map(port, outputs)), **fields)


def port(tensor):
    return tensor if isinstance(tensor, Port) else Port(tensor)


def weight(name):
    return Port(name, constant=name, layout=WeightLayout((0,), (1,)))


@pytest.fixture
def diamond():
    """a feeds b and c, d takes both, and b twice; w is shared, v is no weight."""
    return Graph(
        "test",
        [
            node("a", ["x", weight("w")], ["t"], OpKind.MATMUL),
            node("b", ["t"], ["u"], OpKind.ACTIVATION),
            node("c", ["t", weight("w")], ["v1", "v2"], OpKind.MATMUL),
            node("d", ["u", "v1", "v2", "u", Port("bias", constant="bias")], ["y"], OpKind.ADD),
        ],
        {"w": constant("w"), "bias": constant("bias", shape=(4,))},
    )


def names(nodes):
    return [each.name for each in nodes]


class TestQueries:
    def test_nodes_are_found_by_name(self, diamond):
        assert diamond.node("c").name == "c"
        assert "c" in diamond
        assert "e" not in diamond
        assert 3 not in diamond
        with pytest.raises(ValidationError, match="no node named 'e'"):
            diamond.node("e")

    def test_order_is_kept(self, diamond):
        assert names(diamond) == ["a", "b", "c", "d"]
        assert len(diamond) == 4

    def test_producers(self, diamond):
        assert diamond.producer("v2").name == "c"
        assert diamond.producer("x") is None
        assert diamond.producer("bias") is None

    def test_consumers_come_once_and_in_order(self, diamond):
        assert names(diamond.consumers("t")) == ["b", "c"]
        assert names(diamond.consumers("u")) == ["d"]
        assert diamond.consumers("y") == ()

    def test_neighbours_come_once(self, diamond):
        assert names(diamond.successors(diamond.node("a"))) == ["b", "c"]
        assert names(diamond.successors(diamond.node("c"))) == ["d"]
        assert names(diamond.predecessors(diamond.node("d"))) == ["b", "c"]
        assert diamond.predecessors(diamond.node("a")) == ()

    def test_users_of_constants(self, diamond):
        assert [(user.name, index) for user, index in diamond.users("w")] == [("a", 1), ("c", 1)]
        assert [(user.name, index) for user, index in diamond.users("bias")] == [("d", 4)]
        assert diamond.users("unknown") == ()

    def test_nodes_of_kinds(self, diamond):
        assert names(diamond.of_kind([OpKind.ADD, OpKind.MATMUL])) == ["a", "c", "d"]
        assert names(diamond.of_kind(iter([OpKind.ADD]))) == ["d"]
        assert diamond.of_kind([]) == ()

    def test_weights_have_a_layout(self, diamond):
        assert [index for index, _ in diamond.node("a").weights] == [1]
        assert diamond.node("d").weights == ()

    @given(st.lists(st.lists(st.integers(0, 8), max_size=3), max_size=9))
    def test_neighbours_agree(self, wanted):
        # node i may take only tensors of nodes before it
        nodes = [node(str(i), [f"t{j % i}" for j in w] if i else [], [f"t{i}"]) for i, w in enumerate(wanted)]
        graph = Graph("test", nodes)
        for each in graph:
            for after in graph.successors(each):
                assert each in graph.predecessors(after)
            for before in graph.predecessors(each):
                assert each in graph.successors(before)
                assert all(graph.producer(p.tensor) is before for p in before.outputs)


class TestRules:
    def test_names_are_unique(self):
        with pytest.raises(ValidationError, match=r"same name: a, b\."):
            Graph("test", [node("b"), node("a"), node("b"), node("a"), node("c")])

    def test_everything_is_frozen(self, diamond):
        for thing, name in ((diamond, "nodes"), (diamond.node("a"), "name"), (diamond.constants["w"], "shape")):
            with pytest.raises(FrozenInstanceError):
                setattr(thing, name, None)

    def test_equality_does_not_read_constants(self):
        def fail():
            raise AssertionError("read")

        assert Constant("a", "float32", (2,), fail) == Constant("a", "float32", (2,), lambda: np.zeros(2))
        assert Constant("a", "float32", (2,), fail) != Constant("a", "float16", (2,), fail)
        assert "read" not in repr(Constant("a", "float32", (2,), fail))

    @pytest.mark.parametrize("dtype", sorted(FLOAT_DTYPES))
    def test_float_dtypes_are_names_that_numpy_knows(self, dtype):
        import ml_dtypes

        assert np.dtype(getattr(ml_dtypes, dtype, dtype)).name == dtype
        assert Constant("a", dtype, (2,), lambda: np.zeros(2)).is_float

    @pytest.mark.parametrize("fields", [{"dtype": "int8"}, {"dtype": "int4"}, {"compressed_format": "uint4"}])
    def test_what_is_not_float(self, fields):
        assert not constant("a", **fields).is_float

    @pytest.mark.parametrize(("shape", "size"), [((), 1), ((3, 4), 12), ((0, 5), 0), ((2**20, 2**20), 2**40)])
    def test_sizes_do_not_overflow(self, shape, size):
        assert Constant("a", "float32", shape, lambda: np.zeros(0)).size == size


class TestMeaning:
    def test_traits_belong_to_kinds(self):
        weighted = {kind for kind in OpKind if Trait.WEIGHTED in traits_of(kind)}
        assert {OpKind.MATMUL, OpKind.CONV, OpKind.EMBEDDING} < weighted
        assert not weighted & {OpKind.ADD, OpKind.OTHER, OpKind.INPUT}
        assert traits_of(OpKind.OTHER) == frozenset()
        assert node("a", kind=OpKind.ADD).traits == traits_of(OpKind.ADD)

    def test_weight_constants_come_once_in_graph_order(self, diamond):
        assert [c.name for c in weight_constants(diamond)] == ["w"]

    def test_compressed_weights_count_and_integers_do_not(self):
        constants = {
            "packed": constant("packed", compressed_format="uint4"),
            "whole": constant("whole", dtype="int64"),
            "plain": constant("plain"),
            "unused": constant("unused"),
        }
        nodes = [node(f"n{i}", ["x", weight(name)], [f"y{i}"], OpKind.MATMUL) for i, name in enumerate(constants)][:3]
        nodes.append(node("other", ["x", weight("unused")], ["z"], OpKind.OTHER))
        assert [c.name for c in weight_constants(Graph("test", nodes, constants))] == ["packed", "plain"]

    def test_nodes_in_excluded_bodies_are_excluded(self):
        inner = node("inner", scope=("loop", "branch"))
        for ignored, excluded in (({"inner"}, True), ({"loop"}, True), ({"branch"}, True), ({"other"}, False)):
            assert is_excluded(inner, frozenset(ignored)) is excluded

    def test_points_have_distinct_texts(self):
        points = [TargetPoint(n, k, p) for n in ("a", "a:input:0") for k in PointKind for p in range(2)]
        assert len({str(point) for point in points}) == len(points)
        assert str(TargetPoint("a")) == "a:output:0"
