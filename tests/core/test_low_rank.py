"""Low-rank branches: where they can be, what is refused, how plans store and reports count them."""

import numpy as np
import pytest

from nncf_core.advanced import AdvancedCompressionParameters, AdvancedLoraCorrectionParameters
from nncf_core.api import compress_weights_config
from nncf_core.checking import checked_edits
from nncf_core.errors import ParameterNotSupportedError, PluginError, ValidationError
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, WeightLayout
from nncf_core.low_rank import branched_layers, layers_of, values_of
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.pipeline import apply_plan
from nncf_core.plan import Plan, entry_for
from nncf_core.report import Report
from nncf_core.testing import registered
from nncf_core.testing.numpy_backend import plugin, samples
from nncf_core.testing.numpy_backend.builder import NumpyGraphBuilder
from nncf_core.testing.suite import comparable
from nncf_core.transformations import CompressConstant, InsertLowRank

CASE = samples.language_model()


@pytest.fixture(autouse=True)
def numpy_backend():
    with registered(plugin, "numpy"):
        yield


def matrices(outputs, inputs, rank=2, *, integers=False):
    generator = np.random.default_rng(0)
    made = [generator.normal(size=shape).astype(np.float32) for shape in ((rank, inputs), (outputs, rank))]
    return [compress(m, SCHEMES["int8_asym"], reduction_axes=1) for m in made] if integers else made


def edit(**more):
    return InsertLowRank("block0.up", *matrices(*_size("block0.up"), **more), "because")


def _size(name):
    graph = NumpyGraphBuilder().build(CASE.model())
    node, index = graph.users(name)[0]
    layout = node.inputs[index].layout
    return graph.constants[name].shape[layout.channel_axes[0]], graph.constants[name].shape[layout.reduction_axes[0]]


class TestLayers:
    """Graphs of one layer: which can have a branch."""

    def graph(
        self, *, kind=OpKind.MATMUL, shape=(6, 4), layout=((1,), (0,)), order="xw", scope=(), more=(), **attributes
    ):
        weight = Port("w", "float32", shape, "w", None if layout is None else WeightLayout(*layout))
        ports = {"x": Port("x", "float32", (None, 4)), "w": weight, "b": Port("b", "float32", (6,), "b")}
        layer = Node(
            "layer", kind.value, kind, tuple(ports[n] for n in order), (Port("y", "float32"),), scope, attributes
        )
        constants = {"w": Constant("w", "float32", shape, lambda: np.zeros(shape, np.float32))}
        return Graph("numpy", (layer, *more), constants)

    @pytest.mark.parametrize(
        ("settings", "port"),
        [
            ({}, 0),
            ({"order": "xwb"}, 0),
            ({"order": "bxw"}, 1),  # addmm
            ({"shape": (4, 6), "layout": ((0,), (1,))}, 0),
        ],
    )
    def test_products_with_a_matrix(self, settings, port):
        graph = self.graph(**settings)
        assert [(node.name, index) for node, index in branched_layers(graph, "w")] == [("layer", port)]

    @pytest.mark.parametrize(
        "settings",
        [
            {"order": "wx"},  # the channels of activations are not last
            {"transpose_a": True},
            {"transA": 1},
            {"kind": OpKind.EMBEDDING},
            {"kind": OpKind.CONV, "shape": (6, 4, 1, 1), "layout": ((1, 2, 3), (0,))},
            {"shape": (2, 6, 4), "layout": ((2,), (1,), (0,))},
            {"layout": None},
            {"scope": ("loop",)},
        ],
    )
    def test_others(self, settings):
        assert branched_layers(self.graph(**settings), "w") == ()

    def test_all_users_must_be_layers(self):
        weight = Port("w", "float32", (6, 4), "w", WeightLayout((1,), (0,)))
        table = Node("table", "Embedding", OpKind.EMBEDDING, (weight, Port("i", "int64")), (Port("e"),))
        assert branched_layers(self.graph(more=(table,)), "w") == ()
        view = Node("turn", "Transpose", OpKind.SHAPE_ONLY, (Port("w", constant="w"),), (Port("v"),))
        assert len(branched_layers(self.graph(more=(view,)), "w")) == 1

    def test_all_users_must_take_the_same_side(self):
        weight = Port("w", "float32", (6, 4), "w", WeightLayout((0,), (1,)))
        other = Node("other", "MatMul", OpKind.MATMUL, (Port("y"), weight), (Port("z"),))
        assert branched_layers(self.graph(more=(other,)), "w") == ()

    def test_unknown_constants(self):
        assert branched_layers(self.graph(), "no such") == ()


class TestErrors:
    def test_what_does_not_fit(self):
        graph = NumpyGraphBuilder().build(CASE.model())
        outputs, inputs = _size("block0.up")
        down, up = matrices(outputs, inputs)
        with pytest.raises(ValidationError, match="no constant 'nothing'"):
            layers_of(graph, InsertLowRank("nothing", down, up))
        with pytest.raises(ParameterNotSupportedError, match="'embedding' cannot have a low-rank branch"):
            layers_of(graph, InsertLowRank("embedding", down, up))
        with pytest.raises(ValidationError, match=rf"they must be \[rank, {inputs}\] and \[{outputs}, rank\]"):
            layers_of(graph, InsertLowRank("block0.up", down, up[:, :1]))

    def test_what_a_plugin_gives_is_looked_at(self):
        graph = NumpyGraphBuilder().build(CASE.model())
        good = edit(integers=True)
        assert list(checked_edits("a", [good], graph)) == [good]
        bad = edit()
        bad.up[0, 0] = np.nan
        with pytest.raises(PluginError, match=r"InsertLowRank of block0\.up holds NaN"):
            list(checked_edits("a", [bad], graph))
        with pytest.raises(PluginError, match="names 'nothing', which is no constant"):
            list(checked_edits("a", [InsertLowRank("nothing", good.down, good.up)], graph))


@pytest.mark.parametrize("integers", [False, True])
class TestPlans:
    def plan(self, *edits):
        graph = NumpyGraphBuilder().build(CASE.model())
        return Plan("numpy", tuple(entry_for("test", each, graph) for each in edits), (("test", tuple(edits)),))

    def test_they_are_read_bit_for_bit(self, tmp_path, integers):
        plan = self.plan(edit(integers=integers))
        plan.save(tmp_path)
        loaded = Plan.load(tmp_path)
        assert comparable(loaded) == comparable(plan)
        first, second = (apply_plan(each, CASE.model()) for each in (plan, loaded))
        assert comparable(first.constants) == comparable(second.constants)

    def test_entries_and_report(self, integers):
        weight = CASE.weights["block0.up"]
        graph = NumpyGraphBuilder().build(CASE.model())
        axis = graph.users("block0.up")[0][0].inputs[1].layout.reduction_axes[0]
        tensor = compress(weight, SCHEMES["int8_asym"], reduction_axes=axis)
        plain, branched = self.plan(CompressConstant("block0.up", tensor)), edit(integers=integers)
        both = self.plan(CompressConstant("block0.up", tensor), branched)
        outputs, inputs = _size("block0.up")
        wanted = 2 * inputs + 2 * outputs  # codes
        wanted = wanted + 3 * (2 + outputs) if integers else 4 * wanted
        entry = both.entries[1]
        assert (entry.action, entry.target, entry.bytes_before, entry.bytes_after) == (
            "low_rank",
            "block0.up",
            0,
            wanted,
        )
        assert (entry.format, entry.reason) == ("uint8" if integers else "", "because")
        reports = [Report.of(graph, each) for each in (plain, both)]
        assert reports[1].bytes_after == reports[0].bytes_after + wanted
        assert reports[1].notes == (f"Of these bytes {wanted:,} are of low-rank branches beside 1 weight.",)
        assert reports[0].notes == ()

    def test_the_model_computes_with_them(self, integers):
        branched = edit(integers=integers)
        result = apply_plan(self.plan(branched), CASE.model())
        layout = NumpyGraphBuilder().build(CASE.model()).users("block0.up")[0][0].inputs[1].layout
        product = values_of(branched.up) @ values_of(branched.down)
        weight = CASE.weights["block0.up"] + (product if layout.channel_axes == (0,) else product.T)
        twin = CASE.make({**CASE.weights, "block0.up": weight.astype(np.float32)})
        for feed in CASE.feeds:
            for name, array in twin.run(feed).items():
                np.testing.assert_allclose(result.run(feed)[name], array, atol=1e-4 * np.abs(array).max())


def test_values_of_integers_are_those_of_the_kernels():
    down, _ = matrices(4, 8, integers=True)
    np.testing.assert_array_equal(values_of(down), decompress(down, np.float32))


def test_arguments_become_a_section():
    def section(**arguments):
        return compress_weights_config(mode="int4_sym", lora_correction=True, **arguments)["compression"][-1]

    assert section() == {"algorithm": "lora_correction", "subset_size": 128}
    assert section(subset_size=16) == {"algorithm": "lora_correction", "subset_size": 16}
    own = AdvancedLoraCorrectionParameters(adapter_rank=4, use_int8_adapters=False, subset_size=20)
    found = section(advanced_parameters=AdvancedCompressionParameters(lora_correction_params=own), subset_size=64)
    assert (found["adapter_rank"], found["use_int8_adapters"], found["subset_size"]) == (4, False, 20)
