"""Which weights get which format."""

import numpy as np
import pytest

import nncf
from nncf_core.advanced import AdvancedCompressionParameters
from nncf_core.contracts import CompressionRequest, Context
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, WeightLayout
from nncf_core.statistics import Statistics
from nncf_weight_compression.algorithm import WeightCompression, assign
from nncf_weight_compression.parameters import WeightCompressionParameters, resolve
from nncf_weight_compression.selection import largest_power_of_two_divisor
from tests.algorithms.weight_compression.graphs import CONV, ROWS, graph, language_model, random, weighted


def formats(model: Graph, ignored: frozenset[str] = frozenset(), **params: object) -> dict[str, tuple[str, int]]:
    """Scheme and group size by constant."""
    settings = resolve(WeightCompressionParameters(**params))
    found = assign(model, settings, Context(ignored=ignored), Statistics())
    return {a.weight.constant.name: (a.scheme.name, a.group_size) for a in found}


def test_int8_compresses_everything_alike() -> None:
    model = language_model()
    assert formats(model) == dict.fromkeys(model.constants, ("int8_asym", -1))
    assert formats(model, mode=nncf.CompressWeightsMode.INT8_SYM) == dict.fromkeys(model.constants, ("int8_sym", -1))
    assert formats(model, mode=nncf.CompressWeightsMode.INT8) == formats(model)


def test_int4_leaves_embedding_and_head_to_the_backup_format() -> None:
    found = formats(language_model(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=32)
    assert found == {
        "table": ("int8_asym", -1),
        **{f"w{i}": ("int4_sym", 32) for i in range(4)},
        "head.w": ("int8_asym", -1),
    }


def test_all_layers_gives_embedding_and_head_the_primary_format() -> None:
    model = language_model()
    found = formats(model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=32, all_layers=True)
    assert found == dict.fromkeys(model.constants, ("int4_asym", 32))


def test_a_head_tied_to_the_embedding_takes_no_other_layers_place() -> None:
    found = formats(language_model(tied=True), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64)
    assert found == {"table": ("int8_asym", -1), **{f"w{i}": ("int4_sym", 64) for i in range(4)}}


def test_an_ignored_head_takes_no_other_layers_place() -> None:
    found = formats(language_model(), frozenset({"head"}), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64)
    assert found == {"table": ("int8_asym", -1), **{f"w{i}": ("int4_sym", 64) for i in range(4)}}


@pytest.mark.parametrize("passed", [(), (OpKind.SHAPE_ONLY, OpKind.CONCAT), (OpKind.MULTIPLY,)])
def test_frequencies_of_positions_stay_as_they_are(passed: tuple[OpKind, ...]) -> None:
    model = language_model()
    nodes, tensor = [weighted("rotary", "frequencies")], "rotary.out"
    for index, kind in enumerate(passed):
        factor = (Port("2pi", constant="2pi"),) if kind is OpKind.MULTIPLY else ()
        nodes.append(Node(f"p{index}", kind.value, kind, (Port(tensor), *factor), (Port(f"p{index}.out"),)))
        tensor = f"p{index}.out"
    nodes.append(Node("sin", "Sin", OpKind.PERIODIC, (Port(tensor),), (Port("sin.out"),)))
    arrays = {name: constant.read() for name, constant in model.constants.items()}
    arrays |= {"frequencies": random(1, 16), "2pi": random(1)}
    whole = graph([*nodes, *model.nodes], arrays)
    assert formats(whole) == formats(model)
    # who takes them for something else, too, gets them rounded
    other = Node("other", "Relu", OpKind.RELU, (Port("rotary.out"),), (Port("other.out"),))
    assert "frequencies" in formats(graph([*nodes, other, *model.nodes], arrays))


def test_ignoring_one_user_of_a_shared_constant_leaves_it_alone() -> None:
    assert "table" not in formats(language_model(tied=True), frozenset({"head"}))


def test_a_constant_or_an_enclosing_node_can_be_ignored() -> None:
    assert "w1" not in formats(language_model(), frozenset({"w1"}))
    body = graph([weighted("inner", "w", scope=("loop",))], {"w": random(8, 8)})
    assert formats(body) == {"w": ("int8_asym", -1)}
    assert formats(body, frozenset({"loop"})) == {}


def test_convolutions_get_the_backup_format() -> None:
    model = graph(
        [weighted("conv", "k", OpKind.CONV, CONV), weighted("a", "w0"), weighted("b", "w1")],
        {"k": random(8, 4, 3, 3), "w0": random(64, 8), "w1": random(64, 8)},
    )
    found = formats(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64)
    assert found == {"k": ("int8_asym", -1), "w0": ("int4_sym", 64), "w1": ("int8_asym", -1)}


@pytest.mark.parametrize("all_layers", [False, True])
def test_recurrent_layers_get_the_backup_format(all_layers: bool) -> None:
    gates = WeightLayout(reduction_axes=(2,), channel_axes=(1,), batch_axes=(0,))
    model = graph(
        [weighted("lstm", "r", OpKind.RECURRENT, gates), weighted("a", "w0"), weighted("b", "w1")],
        {"r": random(2, 32, 24), "w0": random(64, 8), "w1": random(64, 8)},
    )
    found = formats(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64, all_layers=all_layers)
    assert found["r"] == ("int8_asym", -1)
    assert found["w0"] == ("int4_sym", 64)
    assert found["w1"] == (("int4_sym", 64) if all_layers else ("int8_asym", -1))
    assert formats(model, mode=nncf.CompressWeightsMode.INT8_SYM)["r"] == ("int8_sym", -1)


@pytest.mark.parametrize(("dtype", "taken"), [("float16", True), ("float64", True), ("int8", False), ("int64", False)])
def test_only_float_weights_are_taken(dtype: str, taken: bool) -> None:
    model = graph([weighted("a", "w")], {"w": np.ones((8, 8), dtype)})
    assert (formats(model) == {"w": ("int8_asym", -1)}) is taken


def test_vectors_are_left_alone() -> None:
    assert formats(graph([weighted("a", "w")], {"w": random(8)})) == {}


@pytest.mark.parametrize(
    ("ratio", "primary"),
    # w3 has the largest INT8 error, and is by the reference's rule the least sensitive
    [
        (0.0, []),
        (0.24, []),
        (0.25, ["w3"]),
        (0.5, ["w3", "w2"]),
        (0.75, ["w3", "w2", "w1"]),
        (1.0, ["w3", "w2", "w1", "w0"]),
    ],
)
def test_ratio(ratio: float, primary: list[str]) -> None:
    found = formats(language_model(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64, ratio=ratio)
    assert {name for name, (scheme, _) in found.items() if scheme == "int4_sym"} == set(primary)
    assert {name for name, (scheme, _) in found.items() if scheme == "int8_asym"} == {
        "table", "head.w", *(f"w{i}" for i in range(4) if f"w{i}" not in primary),
    }  # fmt: skip


def test_ratio_with_no_backup_leaves_the_rest_as_it_is() -> None:
    found = formats(
        language_model(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64, ratio=0.5,
        backup_mode=nncf.BackupMode.NONE,
    )  # fmt: skip
    assert found == {"w2": ("int4_sym", 64), "w3": ("int4_sym", 64)}


def misfitting() -> Graph:
    return graph(
        [weighted("a", "w96"), weighted("b", "w64"), weighted("c", "w30"), weighted("head", "h")],
        {"w96": random(96, 4), "w64": random(64, 4), "w30": random(30, 4), "h": random(64, 4)},
    )


def adjusting(mode: nncf.GroupSizeFallbackMode, **more: object) -> AdvancedCompressionParameters:
    return AdvancedCompressionParameters(group_size_fallback_mode=mode, **more)


def test_a_group_size_that_does_not_divide_is_an_error_that_names_the_weights() -> None:
    with pytest.raises(nncf.InvalidGroupSizeError, match=r"w96 \(node a\): 96.*w30 \(node c\): 30.*such as 2"):
        formats(misfitting(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64)


def test_fallback_ignore_leaves_misfits_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    found = formats(
        misfitting(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64,
        advanced_parameters=adjusting(nncf.GroupSizeFallbackMode.IGNORE),
    )  # fmt: skip
    assert found == {"w64": ("int4_sym", 64), "h": ("int8_asym", -1)}


def test_fallback_adjust_takes_a_smaller_group_or_the_backup_format() -> None:
    found = formats(
        misfitting(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64,
        advanced_parameters=adjusting(nncf.GroupSizeFallbackMode.ADJUST),
    )  # fmt: skip
    assert found == {
        "w96": ("int4_sym", 32), "w64": ("int4_sym", 64), "w30": ("int8_asym", -1), "h": ("int8_asym", -1),
    }  # fmt: skip


def test_adjusted_group_sizes_count_for_the_ratio() -> None:
    found = formats(
        misfitting(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64, ratio=0.0,
        advanced_parameters=adjusting(nncf.GroupSizeFallbackMode.ADJUST),
    )  # fmt: skip
    assert {scheme for scheme, _ in found.values()} == {"int8_asym"}


def test_an_adjusted_group_is_never_larger_than_asked_for() -> None:
    # the reference turns 96 into 256 for 768 channels
    model = graph([weighted("a", "w"), weighted("h", "h")], {"w": random(768, 2), "h": random(64, 2)})
    found = formats(
        model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=80,
        advanced_parameters=adjusting(nncf.GroupSizeFallbackMode.ADJUST),
    )  # fmt: skip
    assert found["w"] == ("int4_sym", 64)
    assert largest_power_of_two_divisor(768, 96) == 64
    assert largest_power_of_two_divisor(768, 1000) == 256
    assert largest_power_of_two_divisor(7, 64) == 1


@pytest.mark.parametrize(
    ("mode", "backup", "group"),
    [
        ("mxfp4", "mxfp8_e4m3", 32), ("e2m1", "int8_asym", -1), ("fp4", "fp8_e4m3", 128),
        ("nf4", "int8_asym", -1), ("nvfp4", "int8_asym", -1), ("cb4", "int8_asym", -1),
    ],
)  # fmt: skip
def test_default_backup_formats(mode: str, backup: str, group: int) -> None:
    model = graph([weighted("a", "w"), weighted("head", "h")], {"w": random(128, 4), "h": random(128, 4)})
    found = formats(model, mode=nncf.CompressWeightsMode(mode))
    assert found["h"] == (backup, group)


def test_a_backup_group_that_does_not_fit_becomes_a_channel_or_leaves_the_weight() -> None:
    model = graph(
        [weighted("e", "table", OpKind.EMBEDDING, ROWS), weighted("a", "w"), weighted("head", "h")],
        {"table": random(10, 20), "w": random(128, 4), "h": random(128, 4)},
    )
    assert formats(model, mode=nncf.CompressWeightsMode.FP4)["table"] == ("fp8_e4m3", -1)
    assert "table" not in formats(model, mode=nncf.CompressWeightsMode.MXFP4)


def test_a_format_that_the_backend_cannot_express_is_refused_before_any_work() -> None:
    def refuse(constant: Constant, request: CompressionRequest) -> str | None:
        return f"no {request.format} in groups of {request.group_size} here" if request.scheme == "int4_sym" else None

    params = WeightCompressionParameters(mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64)
    edits = WeightCompression().transformations(language_model(), Statistics(), params, Context(refusal=refuse), 0)
    with pytest.raises(nncf.ParameterNotSupportedError, match=r"'w0' of node 'layer0'.*no int4 in groups of 64 here"):
        next(edits)


def test_an_empty_weight_is_an_error_that_names_it() -> None:
    with pytest.raises(nncf.ValidationError, match=r"'w' of node 'a'.*ignored_scope"):
        formats(graph([weighted("a", "w")], {"w": random(0, 8)}))
