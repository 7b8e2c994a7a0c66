"""Statistics for those who refine weights: in one pass, or part by part behind weights that are compressed."""

from __future__ import annotations

import io
import tempfile
import threading
import types
import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from attrs import evolve, frozen
from torch import nn

import nncf
from nncf_core import calibration, gathering, refining_steps
from nncf_core.hookspecs import HOOK_API, hookimpl
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.pipeline import run
from nncf_core.statistics import StatisticsRequest
from nncf_core.testing import registered
from nncf_torch.builder import TorchGraphBuilder

FRAMEWORKS = ("onnx", "openvino", "torch", "program")
WIDTH, LENGTH = 32, 16


class Block(nn.Module):
    """Attention and a gated MLP, each added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.gate, self.up = nn.Linear(WIDTH, 64, bias=False), nn.Linear(WIDTH, 64, bias=False)
        self.down = nn.Linear(64, WIDTH)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        scores = self.q(y) @ self.k(y).transpose(1, 2) / WIDTH**0.5 + mask
        x = x + self.o(scores.softmax(-1) @ self.v(y))
        y = self.norm2(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


class Network(nn.Module):
    """Two blocks that take a mask."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(40, WIDTH)
        self.register_buffer("positions", torch.randn(2 * LENGTH, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(WIDTH, 40, bias=False)
        self.first = nn.Linear(LENGTH, WIDTH)

    def forward(self, ids: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = self.table(ids) + self.positions[: ids.shape[1]]
        x = x + self.first(bias)[:, None, : x.shape[2]]
        for block in self.blocks:
            x = block(x, bias[:, None, :] * 2.0)  # an input that every part takes
        return self.head(x)


EXAMPLE = (torch.arange(2 * LENGTH).reshape(2, LENGTH), torch.zeros(2, LENGTH))
FIRST = ["first.weight", *(f"blocks.{i}.{name}.weight" for i in range(2) for name in ("q", "o", "gate", "down"))]
"""One of the weights that take the same tensor."""
NAMES = [
    "first.weight",
    *(f"blocks.{i}.{name}.weight" for i in range(2) for name in ("q", "k", "v", "o", "gate", "up", "down")),
]


def items(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(0)
    return [
        (generator.integers(0, 40, (2, LENGTH)), generator.normal(size=(2, LENGTH)).astype(np.float32))
        for _ in range(count)
    ]


@cache
def network(framework: str) -> Any:
    module = Network().eval()
    if framework == "torch":
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters
        program = torch.export.export(module, EXAMPLE)
        if framework == "program":
            return program
        if framework == "openvino":
            return openvino.convert_model(program)
        stream = io.BytesIO()
        torch.onnx.export(module, EXAMPLE, dynamo=True, opset_version=21, verbose=False).save(stream)
    return onnx.load_model_from_string(stream.getvalue())


@frozen
class Parameters:
    subset_size: int = 100


class Witness:
    """Writes down the statistics of each weight's input."""

    name = "witness"
    parameters = Parameters
    needs_data = True

    def __init__(self, propagates: bool, kinds: tuple[str, ...], patience: int = 100, held_out: bool = False) -> None:
        self.propagates, self.kinds, self.patience, self.held_out = propagates, kinds, patience, held_out
        self.seen: list[tuple[tuple[str, ...], dict[str, np.ndarray]]] = []

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": {"subset_size": {"type": "integer"}}}

    def rounds(self, graph, params):
        return 1

    def _requests(self, inputs):
        point, axis = inputs[0].point, inputs[0].axis
        return {kind: StatisticsRequest(point, kind, axis, held_out=self.held_out) for kind in self.kinds}

    def requests(self, graph, params, context, round_index):
        plans = [plan for plan in context.planned if plan.request.group_size != -1]
        return [request for plan in plans for request in self._requests(plan.inputs).values()]

    def transformations(self, graph, statistics, params, context, round_index):
        raise AssertionError

    def refined(self, weights, graph, statistics, params, context):
        plan = weights[0].plan
        if plan.request.group_size != -1:
            found = {kind: statistics[request] for kind, request in self._requests(plan.inputs).items()}
            if len(self.seen) == self.patience:
                raise KeyboardInterrupt
            self.seen.append((tuple(weight.edit.constant for weight in weights), found))
        # half of what it would be: what comes behind must show it
        return [
            evolve(
                weight,
                edit=evolve(weight.edit, tensor=evolve(weight.edit.tensor, scale=weight.edit.tensor.scale / 2)),
            )
            for weight in weights
        ]


def plugged(witness: Witness) -> Any:
    plugin = types.ModuleType("a_plugin")
    plugin.NNCF_HOOK_API = HOOK_API
    plugin.nncf_algorithms = hookimpl(lambda: [witness])
    return registered(plugin, "a_plugin")


def witnessed(framework: str, witness: Witness, *, data: Any = None, group_size: int = 16, **options: Any) -> Any:
    """A run with a witness.

    :param data: items; none at all where it is empty.
    """
    main = {"algorithm": "weight_compression", "mode": "int4_sym", "group_size": group_size}
    config = {"compression": [main, {"algorithm": "witness"}]}
    given = items(5) if data is None else data
    with plugged(witness):
        return run(config, network(framework), dataset=nncf.Dataset(given) if given else None, **options)


def expected(propagates: bool) -> dict[str, dict[str, np.ndarray]]:
    """Statistics by name of the weight, one layer after the other by hooks of PyTorch."""
    exact, changed = Network().eval(), Network().eval()
    found = {}

    def inputs(module: nn.Module, name: str) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        layer = module.get_submodule(name.removesuffix(".weight"))
        handle = layer.register_forward_hook(lambda _, given, __: seen.append(given[0].detach()))
        with torch.no_grad():
            for ids, bias in items(5):
                module(torch.from_numpy(ids), torch.from_numpy(bias))
        handle.remove()
        return torch.cat([each.reshape(-1, each.shape[-1]) for each in seen]).double()

    done: list[str] = []
    for name in NAMES:
        f, x = inputs(exact, name), inputs(changed, name)
        found[name] = {
            "gram": (x.T @ x / len(x)).numpy(),
            "cross_gram": (f.T @ x / len(x)).numpy(),
            "mean_square": x.square().mean(0).numpy(),
        }
        done.append(name)
        if propagates:
            # q, k and v take one tensor, and so do gate and up: the next input is behind all of them
            parameter = changed.get_parameter(name)
            tensor = compress(parameter.detach().numpy(), SCHEMES["int4_sym"], reduction_axes=1, group_size=16)
            parameter.data = torch.from_numpy(decompress(evolve(tensor, scale=tensor.scale / 2)))
    return found


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("propagates", [False, True])
def test_statistics_are_those_of_hooks(framework, propagates):
    witness = Witness(propagates, ("gram", "cross_gram", "mean_square"))
    witnessed(framework, witness)
    wanted = expected(propagates)
    # OpenVINO computes parts with activations in bfloat16 where the processor knows it
    tolerance = 1e-2 if framework == "openvino" else 2e-5
    assert len(witness.seen) == 9
    for number, (names, found) in enumerate(witness.seen):
        first = FIRST[number]
        assert len(names) == {"q": 3, "gate": 2}.get(first.split(".")[-2], 1)
        for kind, value in found.items():
            scale = np.abs(wanted[first][kind]).max()
            np.testing.assert_allclose(value, wanted[first][kind], atol=tolerance * scale, err_msg=f"{first} {kind}")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_one_pass_is_enough_for_vectors(framework):
    witness = Witness(False, ("mean_square",))
    witnessed(framework, witness)
    wanted = expected(False)
    assert len(witness.seen) == 9
    for number, (_, found) in enumerate(witness.seen):
        value = wanted[FIRST[number]]["mean_square"]
        np.testing.assert_allclose(found["mean_square"], value, rtol=1e-2 if framework == "openvino" else 1e-4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kinds", [("gram", "mean_square"), ("mean_square",)], ids=["parts", "whole"])
def test_every_eighth_item_is_held_out(framework, kinds):
    given = items(17)
    apart, alone = Witness(False, kinds, held_out=True), Witness(False, kinds)
    witnessed(framework, apart, data=given)
    witnessed(framework, alone, data=[given[7], given[15]])
    assert len(apart.seen) == len(alone.seen) == 9
    for (names, found), (others, wanted) in zip(apart.seen, alone.seen, strict=True):
        assert names == others
        for kind in kinds:
            np.testing.assert_allclose(found[kind], wanted[kind], rtol=1e-5, atol=1e-6)


def codes_of(result: Any, path: Any = None) -> dict[str, bytes]:
    graph = TorchGraphBuilder().build(TorchGraphBuilder().open(result.model, {"trace": "structure"}))
    return {
        name: b"".join(np.ascontiguousarray(array).tobytes() for array in (tensor.codes, tensor.scale))
        for name, constant in graph.constants.items()
        if constant.compressed is not None and (tensor := constant.compressed())
    }


def test_an_interrupted_calibration_goes_on(tmp_path):
    kinds = ("gram", "cross_gram")
    whole = codes_of(witnessed("torch", Witness(True, kinds)))
    interrupted = Witness(True, kinds, patience=5)
    with pytest.raises(KeyboardInterrupt):
        witnessed("torch", interrupted, work_dir=tmp_path / "work")
    rest = Witness(True, kinds)
    again = witnessed("torch", rest, work_dir=tmp_path / "work")
    assert len(rest.seen) == 4
    assert codes_of(again) == whole
    assert len(whole) == 17
    last = Witness(True, kinds)
    assert codes_of(witnessed("torch", last, work_dir=tmp_path / "work")) == whole
    assert not last.seen


def test_a_work_folder_belongs_to_one_calibration(tmp_path):
    witnessed("torch", Witness(True, ("gram",)), work_dir=tmp_path)
    with pytest.raises(nncf.ValidationError, match="holds a calibration with another calibration data"):
        witnessed("torch", Witness(True, ("gram",)), work_dir=tmp_path, data=items(4))
    with pytest.raises(nncf.ValidationError, match="another model or settings"):
        witnessed("torch", Witness(True, ("gram",)), work_dir=tmp_path, group_size=8)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(nncf.ValidationError, match="not readable"):
        witnessed("torch", Witness(True, ("gram",)), work_dir=tmp_path)


@pytest.mark.parametrize("framework", ["onnx", "openvino", "torch"])
@pytest.mark.parametrize("kind", ["gram", "mean_square"])
def test_statistics_are_left_for_the_next_run(framework, kind, tmp_path):
    first, second = Witness(False, (kind,)), Witness(False, (kind,))
    witnessed(framework, first, statistics_path=tmp_path)
    witnessed(framework, second, statistics_path=tmp_path, data=None if framework == "torch" else ())
    assert len(second.seen) == len(first.seen) == 9
    for (names, found), (others, again) in zip(first.seen, second.seen, strict=True):
        assert names == others
        np.testing.assert_array_equal(found[kind], again[kind])
    with pytest.raises(nncf.StatisticsCacheError, match="not those of this run"):
        witnessed(framework, Witness(False, ("max",)), statistics_path=tmp_path)


class Experts(nn.Module):
    """Rows go to one of three small networks; of what none is for, no operator runs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(WIDTH, WIDTH)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, WIDTH)) for _ in "abc"
        )
        self.head = nn.Linear(WIDTH, 8)

    def forward(self, x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for number, expert in enumerate(self.experts):
            own = which == number
            if bool(own.any()):
                x = x.masked_fill(own[:, None], 0.0) + expert(x) * own[:, None]
        return self.head(x)


def sent(*experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(len(experts))
    which = torch.tensor(experts).repeat(12 // len(experts))
    return torch.from_numpy(generator.normal(size=(12, WIDTH)).astype(np.float32)), which


@pytest.mark.parametrize(
    "arguments",
    [
        {"gptq": True},
        {"scale_estimation": True},
        {"lora_correction": True},
        {"awq": True},
        {"awq": True, "scale_estimation": True},
        {"ratio": 0.5},
        {"mode": nncf.CompressWeightsMode.ADAPTIVE_CODEBOOK},
    ],
    ids=str,
)
def test_experts_that_no_item_reaches_are_as_without_data(arguments, capfd, tmp_path):
    mode = arguments.pop("mode", nncf.CompressWeightsMode.INT4_SYM)
    module = Experts().eval()
    example = nncf.AdvancedCompressionParameters(
        backend_params={"example_input": sent(0, 1, 2)}, statistics_path=str(tmp_path)
    )
    plain = nncf.compress_weights(module, mode, group_size=16, all_layers=True, advanced_parameters=example)
    for _ in range(2):  # then with statistics from a file
        found = nncf.compress_weights(
            module,
            mode,
            group_size=16,
            all_layers=True,
            dataset=nncf.Dataset([sent(0), sent(0, 1), sent(1)]),
            advanced_parameters=example,
            **arguments,
        )
        for name in ("experts.2.0", "experts.2.2"):
            assert type(found.get_submodule(name)) is not nn.Linear
            if not {"awq", "ratio", "lora_correction"} & arguments.keys():
                state, wanted = (each.get_submodule(name).state_dict() for each in (found, plain))
                assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    assert "forward" not in "".join(capfd.readouterr())


def test_numbers_whose_squares_are_too_large_are_told_of():
    loud = [(ids, np.float32(1e20) * bias) for ids, bias in items(3)]
    section = {"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 16}
    with pytest.raises(nncf.ValidationError, match=r"'first.weight' is multiplied with.*squares are beyond"):
        run({"compression": [section, {"algorithm": "gptq"}]}, network("torch"), dataset=nncf.Dataset(loud))


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("gptq", "scale_search"),
        ("gptq", "scale_estimation"),
        ("gptq", "error_propagation"),
        ("refinement", "scale_search"),
        ("refinement", "gptq"),
    ],
)
def test_what_makes_up_for_each_other_is_not_undone(first, last):
    names = ("weight_compression", first, last)
    config = {"compression": [{"algorithm": name} for name in names]}
    config["compression"][0] |= {"mode": "int4_sym", "group_size": 16}
    with pytest.raises(nncf.ValidationError, match=f"section {last} would put the nearest ones in their place"):
        run(config, network("onnx"), dataset=nncf.Dataset(items(3)))


def test_without_data_or_statistics(tmp_path):
    with pytest.raises(nncf.UnsupportedDatasetError, match="'witness' needs calibration data"):
        witnessed("onnx", Witness(False, ("gram",)), statistics_path=tmp_path, data=())


def test_nothing_stays_in_temporary_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        witnessed("openvino", Witness(True, ("gram",), patience=3))
    assert not list(tmp_path.iterdir())


def test_a_section_needs_one_to_refine():
    config = {"compression": [{"algorithm": "witness"}]}
    with plugged(Witness(True, ("gram",))), pytest.raises(nncf.ValidationError, match="behind that of one that"):
        run(config, network("torch"), dataset=nncf.Dataset(items(1)))


@pytest.mark.parametrize("framework", ["onnx", "openvino", "program"])
def test_an_item_that_the_model_does_not_take_is_named(framework):
    wrong = [*items(2), (np.zeros((2, LENGTH), np.int64), np.zeros((2, LENGTH + 1), np.float32))]
    with pytest.raises(nncf.UnsupportedDatasetError, match="tem 2"):
        witnessed(framework, Witness(False, ("gram",)), data=wrong)


def test_models_with_state_are_not_cut():
    """A part would have one end of a variable alone."""
    from openvino import opset13

    generator = np.random.default_rng(0)
    x = opset13.parameter([2, WIDTH], np.float32, name="x")
    weights = [opset13.constant(generator.normal(size=(WIDTH, WIDTH)).astype(np.float32)) for _ in range(3)]
    first = opset13.matmul(x, weights[0], False, True)
    info = openvino.op.util.VariableInfo()
    info.data_shape, info.data_type, info.variable_id = openvino.PartialShape([2, WIDTH]), openvino.Type.f32, "v"
    variable = openvino.op.util.Variable(info)
    past = opset13.read_value(opset13.constant(np.zeros((2, WIDTH), np.float32)), variable)
    second = opset13.matmul(opset13.add(first, past), weights[1], False, True)
    last = opset13.matmul(second, weights[2], False, True)
    model = openvino.Model([opset13.result(last)], [opset13.assign(second, variable)], [x])
    data = [generator.normal(size=(2, WIDTH)).astype(np.float32) for _ in range(3)]
    main = {"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 16}
    witness = Witness(True, ("gram",))
    with plugged(witness):
        run({"compression": [main, {"algorithm": "witness"}]}, model, dataset=nncf.Dataset(data))
    assert len(witness.seen) == 2


@pytest.mark.parametrize("framework", ["onnx", "openvino"])
def test_no_more_than_a_few_tensors_are_in_memory(framework, monkeypatch):
    """Statistics that bear rounding come part by part where they would take much, and are the same."""
    parts: list[int] = []
    looks = calibration.Calibration.looks

    def counted(self, given):
        parts.append(len(self.parts))
        return looks(self, given)

    def formats(most: int) -> dict[str, str]:
        monkeypatch.setattr(gathering, "MOST", most)
        section = {"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 16, "ratio": 0.6}
        section |= {"sensitivity_metric": "mean_activation_magnitude"}
        result = run({"compression": [section]}, network(framework), dataset=nncf.Dataset(items(5)))
        return {entry.target: entry.format for entry in result.plan.entries}

    monkeypatch.setattr(calibration.Calibration, "looks", counted)
    whole = formats(1 << 27)
    assert parts == [1]
    assert formats(1 << 19) == whole
    assert parts[-1] > 1


@pytest.mark.parametrize("framework", ["onnx", "openvino"])
def test_parts_that_run_ahead_give_the_same(framework, monkeypatch):
    """The second part runs while the first one's weights are refined."""
    runs, parts_begun = calibration.Calibration._statistics, [threading.Event() for _ in range(20)]

    def counted(self, part, runners, samples):
        next(event for event in parts_begun if not event.is_set()).set()
        return runs(self, part, runners, samples)

    class Waiting(Witness):
        def refined(self, *given):
            assert parts_begun[1].wait(20)
            return super().refined(*given)

    whole, parts = Witness(False, ("mean_square",)), Waiting(False, ("mean_square",))
    witnessed(framework, whole)
    monkeypatch.setattr(refining_steps, "MOST", 1)
    monkeypatch.setattr(calibration.Calibration, "_statistics", counted)
    witnessed(framework, parts)
    assert len(whole.seen) > 1
    for (names, found), (same, wanted) in zip(parts.seen, whole.seen, strict=True):
        assert names == same
        # OpenVINO rounds activations to bfloat16 where the processor knows it, and parts meet in other ones of them
        near = 1e-2 if framework == "openvino" else 1e-5
        np.testing.assert_allclose(found["mean_square"], wanted["mean_square"], rtol=near)


@pytest.mark.parametrize("framework", ["onnx", "openvino"])
@pytest.mark.parametrize("method", ["_runners", "_statistics"])
def test_errors_of_a_part_that_runs_ahead(framework, method, monkeypatch, tmp_path):
    usual, calls = getattr(calibration.Calibration, method), []

    def failing(self, *given):
        calls.append(given)
        if len(calls) == 2:
            raise nncf.UnsupportedModelError("the second part")
        return usual(self, *given)

    monkeypatch.setattr(refining_steps, "MOST", 1)
    monkeypatch.setattr(calibration.Calibration, method, failing)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before, witness = set(threading.enumerate()), Witness(False, ("mean_square",))
    with pytest.raises(nncf.UnsupportedModelError, match="the second part"):
        witnessed(framework, witness)
    assert len(witness.seen) == 1
    assert set(threading.enumerate()) <= before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("framework", ["onnx", "openvino"])
def test_products_with_the_float_models_inputs_are_products_where_nothing_is_compressed(framework):
    witness = Witness(True, ("gram", "cross_gram"))
    witnessed(framework, witness)
    first = witness.seen[0][1]
    np.testing.assert_array_equal(first["gram"], first["cross_gram"])


@pytest.mark.parametrize("framework", ["onnx", "openvino"])
def test_nothing_runs_on_where_a_search_is_stopped(framework, monkeypatch, tmp_path):
    monkeypatch.setattr(refining_steps, "MOST", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        witnessed(framework, Witness(False, ("mean_square",), patience=1))
    assert set(threading.enumerate()) <= before
    assert list(tmp_path.iterdir()) == []
