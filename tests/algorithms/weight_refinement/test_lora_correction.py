"""``lora_correction=True`` on every backend: outputs nearer to those of float, by the branches that one can read."""

from __future__ import annotations

import copy
import io
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from attrs import evolve
from torch import nn

import nncf
import nncf.torch
from nncf_core.hookspecs import HOOK_API, hookimpl
from nncf_core.low_rank import values_of
from nncf_core.numerics.kernels import decompress
from nncf_core.pipeline import apply_plan, make_plan, run
from nncf_core.plan import Plan
from nncf_core.testing import registered
from nncf_core.transformations import CompressConstant, InsertLowRank
from nncf_weight_refinement.layers import is_refinable, layer_of, requests_of

WIDTH, HIDDEN, TOKENS = 64, 96, 40
FRAMEWORKS = ("onnx", "openvino", "torch", "program")
Mode = nncf.CompressWeightsMode


class Network(nn.Module):
    """A table, two gated layers that take one tensor, one with a bias behind them, and a head tied to the table."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(TOKENS, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.gate, self.up = nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.head = nn.Linear(WIDTH, TOKENS, bias=False)
        self.head.weight = self.table.weight
        with torch.no_grad():
            self.table.weight *= torch.exp(torch.randn(WIDTH))  # inputs differ in size

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.mix(self.table(ids)))
        return self.head(self.down(torch.relu(self.gate(x)) * self.up(x)))


WEIGHTS = ("mix", "gate", "up", "down")
EXAMPLE = torch.arange(12).reshape(2, 6)


@cache
def float_module() -> Network:
    return Network().eval()


@cache
def network(framework: str) -> Any:
    module = float_module()
    if framework == "torch":
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters
        program = torch.export.export(module, (EXAMPLE,))
        if framework == "program":
            return program
        if framework == "openvino":
            return openvino.convert_model(program)
        stream = io.BytesIO()
        torch.onnx.export(module, (EXAMPLE,), dynamo=True, opset_version=21, verbose=False).save(stream)
    return onnx.load_model_from_string(stream.getvalue())


def samples(count: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, TOKENS, (2, 6)) for _ in range(count)]


def dataset(count: int = 30) -> nncf.Dataset[Any, Any]:
    return nncf.Dataset(samples(count, 0))


def outputs(model: Any) -> np.ndarray:
    """For other samples."""
    from nncf_core.registry import registry

    backend = registry().backend_for(model)
    working = backend.builder.open(model, {"example_input": EXAMPLE} if isinstance(model, nn.Module) else {})
    run_it = backend.inserter.runner(working)
    return np.concatenate([next(iter(run_it({"ids": ids}).values())) for ids in samples(6, 1)]).astype(np.float64)


def error(model: Any) -> float:
    wanted = outputs(float_module())
    return float(np.linalg.norm(outputs(model) - wanted) / np.linalg.norm(wanted))


def compressed(framework: str, mode: Mode = Mode.INT4_ASYM, data: Any = None, **arguments: Any) -> Any:
    arguments = {"group_size": 32, "lora_correction": True} | arguments
    return nncf.compress_weights(network(framework), mode, dataset=data or dataset(), **arguments)


def config(mode: str = "int4_asym", *sections: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    main = {"algorithm": "weight_compression", "mode": mode, "group_size": 32}
    return {"compression": [main, *sections, {"algorithm": "lora_correction", **parameters}]}


def edits_of(plan: Plan) -> tuple[dict[str, CompressConstant], dict[str, InsertLowRank]]:
    edits = [edit for _, step in plan.steps for edit in step]
    compressions = {edit.constant: edit for edit in edits if isinstance(edit, CompressConstant)}
    return compressions, {edit.constant: edit for edit in edits if isinstance(edit, InsertLowRank)}


@cache
def planned(framework: str) -> Plan:
    return make_plan(config(), network(framework), dataset=dataset())[0]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("mode", [Mode.INT4_SYM, Mode.INT4_ASYM], ids=str)
def test_outputs_are_nearer_to_those_of_float(framework, mode):
    plain = nncf.compress_weights(network(framework), mode, group_size=32, dataset=_if_traced(framework))
    assert error(compressed(framework, mode)) < 0.75 * error(plain)


@pytest.mark.parametrize("mode", [Mode.NF4, Mode.INT3_SYM, Mode.INT2_SYM, Mode.CB4, Mode.FP4], ids=str)
def test_other_formats_of_few_bits(mode):
    arguments = {"group_size": 32} if mode not in (Mode.MXFP4, Mode.NVFP4) else {}
    plain = nncf.compress_weights(network("openvino"), mode, **arguments)
    assert error(compressed("openvino", mode, **arguments)) < 0.8 * error(plain)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_numbers_are_those_of_codes_and_branches(framework):
    """A module of PyTorch with weights made by numpy computes the same."""
    compressions, branches = edits_of(planned(framework))
    twin = copy.deepcopy(float_module())
    twin.head.weight = nn.Parameter(twin.head.weight.clone())
    order = dict(zip(sorted(branches, key=list(compressions).index), WEIGHTS, strict=True))
    for name, edit in compressions.items():
        values = decompress(edit.tensor.on_host(), np.float32)
        if name not in branches:
            if values.shape == (TOKENS, WIDTH):
                twin.table.weight.data = torch.from_numpy(values)
            # the exporter to ONNX makes two of the table that is the head, too
            if framework != "onnx" or values.shape == (WIDTH, TOKENS):
                turned = values if values.shape == (TOKENS, WIDTH) else values.T
                twin.head.weight.data = torch.from_numpy(np.ascontiguousarray(turned))
            continue
        layer = twin.get_submodule(order[name])
        if values.shape != tuple(layer.weight.shape) or _is_turned(framework, name):
            values = values.T
        product = values_of(branches[name].up) @ values_of(branches[name].down)
        layer.weight.data = torch.from_numpy(np.ascontiguousarray(values + product))
    options = {"example_input": EXAMPLE} if framework == "torch" else {}
    result = apply_plan(planned(framework), network(framework), options)
    np.testing.assert_allclose(outputs(result), outputs(twin), rtol=0, atol=2e-3 * np.abs(outputs(twin)).max())


def _is_turned(framework: str, name: str) -> bool:
    """Whether a weight is stored as [inputs, outputs]; the square one does not tell by its shape."""
    if framework != "onnx":
        return False
    (table,) = [t for t in network("onnx").graph.initializer if t.name == name]
    return not np.array_equal(onnx.numpy_helper.to_array(table), float_module().mix.weight.detach().numpy())


def test_backends_give_the_same_branches():
    """Statistics differ in the last bits only: so do the branches, which are compared by their products."""
    found = {framework: list(edits_of(planned(framework))[1].values()) for framework in FRAMEWORKS}
    for framework in FRAMEWORKS[1:]:
        for edit, other in zip(found["onnx"], found[framework], strict=True):
            products = [values_of(each.up) @ values_of(each.down) for each in (edit, other)]
            assert np.linalg.norm(products[0] - products[1]) < 0.02 * np.linalg.norm(products[0])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_floating_point_adapters_and_other_ranks(framework):
    def with_params(**values):
        params = nncf.AdvancedLoraCorrectionParameters(**values)
        advanced = nncf.AdvancedCompressionParameters(lora_correction_params=params)
        return compressed(framework, advanced_parameters=advanced)

    few, many, floats = with_params(adapter_rank=2), with_params(adapter_rank=24), with_params(use_int8_adapters=False)
    errors = [error(each) for each in (few, compressed(framework), many)]
    assert errors == sorted(errors, reverse=True)
    assert error(floats) == pytest.approx(errors[1], rel=0.1)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_report_counts_the_branches(framework):
    plain = run({"compression": config()["compression"][:1]}, network(framework), dataset=_if_traced(framework)).report
    result = run(config(), network(framework), dataset=dataset())
    entries = [entry for entry in result.report.entries if entry.action == "low_rank"]
    assert len(entries) == 4
    assert all(entry.format == "uint8" and entry.bytes_after > 0 and "rank 8" in entry.reason for entry in entries)
    added = sum(entry.bytes_after for entry in entries)
    assert result.report.bytes_after == plain.bytes_after + added
    assert f"{added:,} are of low-rank branches beside 4 weights" in str(result.report)
    scale = 4 if framework == "onnx" else 2  # ONNX has no float16 scales for float32
    sizes = [(WIDTH, WIDTH), (HIDDEN, WIDTH), (HIDDEN, WIDTH), (WIDTH, HIDDEN)]
    assert added == sum(8 * i + 8 * (scale + 1) + 8 * o + o * (scale + 1) for o, i in sizes)


def _if_traced(framework: str) -> Any:
    return dataset(1) if framework == "torch" else None


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_results_do_not_depend_on_threads(framework):
    with ThreadPoolExecutor(3) as threads:
        plans = [make_plan(config(), network(framework), dataset=dataset(), executor=e)[0] for e in (None, threads)]
    first, second = (edits_of(plan)[1] for plan in plans)
    assert list(first) == list(second)
    for name, edit in first.items():
        for part in ("down", "up"):
            one, other = getattr(edit, part), getattr(second[name], part)
            assert one.codes.tobytes() == other.codes.tobytes()
            assert one.scale.tobytes() == other.scale.tobytes()


@pytest.mark.parametrize("framework", ["onnx", "openvino"])
def test_files_and_stored_plans(framework, tmp_path: Path):
    suffix = {"onnx": "onnx", "openvino": "xml"}[framework]
    source, target = tmp_path / f"model.{suffix}", tmp_path / f"small.{suffix}"
    if framework == "onnx":
        onnx.save(network("onnx"), source)
    else:
        openvino.save_model(network("openvino"), source, compress_to_fp16=False)
    run(config(), source, dataset=dataset(), output=target)
    model = onnx.load(target) if framework == "onnx" else openvino.Core().read_model(target)
    assert error(model) == pytest.approx(error(compressed(framework)), rel=1e-3)
    planned(framework).save(tmp_path / "plan")
    applied = apply_plan(Plan.load(tmp_path / "plan"), network(framework))
    np.testing.assert_array_equal(outputs(applied), outputs(compressed(framework)))


def test_an_onnx_model_that_does_not_state_element_types(tmp_path: Path):
    """Behind products with codes, which onnx itself does not know."""
    bare = copy.deepcopy(network("onnx"))
    del bare.graph.value_info[:]
    onnx.save(bare, tmp_path / "bare.onnx")

    def of(model: Any) -> onnx.ModelProto:
        return nncf.compress_weights(
            model, Mode.INT4_SYM, group_size=32, lora_correction=True, dataset=dataset(), advanced_parameters=nbits
        )

    options = {"weight_format": "matmul_nbits", "accuracy_level": 0}
    nbits = nncf.AdvancedCompressionParameters(backend_params=options)
    stated, found = of(network("onnx")), of(bare)
    assert sum(node.op_type == "MatMulNBits" for node in found.graph.node) >= 4
    np.testing.assert_allclose(outputs(found), outputs(stated), rtol=1e-5, atol=1e-5)
    section = {"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 32}
    run(
        {"compression": [section, {"algorithm": "lora_correction"}], "backend_params": options},
        tmp_path / "bare.onnx",
        dataset=dataset(),
        output=tmp_path / "small.onnx",
    )
    np.testing.assert_allclose(outputs(onnx.load(tmp_path / "small.onnx")), outputs(stated), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_behind_other_algorithms(framework):
    gptq = {"algorithm": "gptq"}
    without = run({"compression": config("int4_asym", gptq)["compression"][:2]}, network(framework), dataset=dataset())
    result = run(config("int4_asym", gptq), network(framework), dataset=dataset())
    assert error(result.model) < 0.9 * error(without.model)


class Restoring:
    """Adds what is missing from weights as a branch, wholly, and writes down the inputs of layers."""

    name = "restoring"
    parameters = nncf.AdvancedLoraCorrectionParameters
    propagates = True

    def __init__(self) -> None:
        self.grams: list[np.ndarray] = []

    def schema(self):
        return {"type": "object"}

    def rounds(self, graph, params):
        return 1

    def requests(self, graph, params, context, round_index):
        return requests_of(context, ("gram",))

    def transformations(self, graph, statistics, params, context, round_index):
        return ()

    def refined(self, weights, graph, statistics, params, context):
        result = []
        for weight in weights:
            if is_refinable(weight.plan):
                layer = layer_of([weight], statistics, ("gram",))
                self.grams.append(layer.statistics["gram"])
                missing = (layer.target - layer.axes[0].matrices(decompress(layer.tensors[0], np.float32)))[0]
                branch = InsertLowRank(weight.edit.constant, np.eye(missing.shape[1], dtype=np.float32), missing)
                weight = evolve(weight, more=(branch,))
            result.append(weight)
        return result


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_layers_behind_see_the_branches(framework):
    """Where branches restore weights, what comes behind gets what it gets in the float model."""
    seen = []
    for propagates in (False, True):
        algorithm = Restoring()
        algorithm.propagates = propagates
        plugin = types.ModuleType("restoring_plugin")
        plugin.NNCF_HOOK_API, plugin.nncf_algorithms = HOOK_API, hookimpl(lambda made=algorithm: [made])
        sections = [config("int2_sym")["compression"][0], {"algorithm": "restoring"}]
        with registered(plugin, "restoring_plugin"):
            result = run({"compression": sections}, network(framework), dataset=dataset(4))
        seen.append(algorithm.grams)
    assert len(seen[0]) == 4
    for exact, behind in zip(*seen, strict=True):
        # the table has 8 bits
        np.testing.assert_allclose(behind, exact, atol=2e-2 * np.abs(exact).max())
    assert error(result.model) < 0.03


class TestWhatIsLeftOut:
    def test_weights_of_more_bits(self):
        plain = run({"compression": {"algorithm": "weight_compression", "mode": "int8_asym"}}, network("onnx"))
        sections = [{"algorithm": "weight_compression", "mode": "int8_asym"}, {"algorithm": "lora_correction"}]
        result = run({"compression": sections}, network("onnx"), dataset=dataset(2))
        assert result.model.SerializeToString() == plain.model.SerializeToString()

    @pytest.mark.parametrize("framework", FRAMEWORKS[1:])  # the exporter to ONNX makes two of it
    def test_a_table_that_is_a_head_too_and_a_note_says_so(self, framework):
        everything = config()
        everything["compression"][0]["all_layers"] = True
        result = run(everything, network(framework), dataset=dataset(4))
        assert sum(entry.action == "low_rank" for entry in result.report.entries) == 4
        (note,) = [note for note in result.report.notes if "leaves out" in note]
        assert note.startswith("lora_correction leaves out 1 of 5 weights, whose users are not all layers")

    def test_modules_that_run_twice(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)

            def forward(self, x):
                return self.last(torch.relu(self.first(torch.relu(self.first(x)))))

        torch.manual_seed(0)
        data = nncf.Dataset([torch.randn(3, 64) for _ in range(4)])
        everything = config()
        everything["compression"][0]["all_layers"] = True
        for model, corrected in ((Twice().eval(), 1), (torch.export.export(Twice(), (torch.randn(3, 64),)), 2)):
            result = run(everything, model, dataset=data)
            assert sum(entry.action == "low_rank" for entry in result.report.entries) == corrected

    def test_without_data(self):
        with pytest.raises(nncf.UnsupportedDatasetError, match="'lora_correction' needs calibration data"):
            nncf.compress_weights(network("onnx"), Mode.INT4_SYM, group_size=32, lora_correction=True)

    def test_parameters_are_checked(self):
        with pytest.raises(nncf.ValidationError, match="adapter_rank"):
            run(config(adapter_rank=0), network("onnx"), dataset=dataset(1))

    def test_an_ignored_scope_of_its_own(self):
        scoped = config(ignored_scope={"names": ["gate/linear/0"]})
        result = run(scoped, network("torch"), dataset=dataset(4))
        assert [entry.target for entry in result.report.entries if entry.action == "low_rank"] == [
            "mix.weight", "up.weight", "down.weight",
        ]  # fmt: skip


@pytest.fixture(scope="module")
def corrected() -> nn.Module:
    return compressed("torch")


class TestModules:
    """What can be done with a module of PyTorch can be done with a corrected one."""

    def test_names_and_buffers(self, corrected):
        state = corrected.state_dict()
        assert {"gate.nncf_low_rank.down.weight_codes", "gate.nncf_low_rank.up.weight_scale"} <= set(state)
        assert isinstance(corrected.gate, nn.Linear)
        assert not hasattr(float_module().gate, "nncf_low_rank")
        np.testing.assert_array_equal(outputs(copy.deepcopy(corrected)), outputs(corrected))

    @pytest.mark.parametrize("integers", [True, False])
    def test_config_and_state(self, integers):
        params = nncf.AdvancedLoraCorrectionParameters(use_int8_adapters=integers, adapter_rank=4)
        advanced = nncf.AdvancedCompressionParameters(lora_correction_params=params)
        corrected = compressed("torch", advanced_parameters=advanced)
        loaded = nncf.torch.load_from_config(Network().eval(), nncf.torch.get_config(corrected))
        assert {k: v.shape for k, v in loaded.state_dict().items()} == {
            k: v.shape for k, v in corrected.state_dict().items()
        }
        loaded.load_state_dict(corrected.state_dict())
        np.testing.assert_array_equal(outputs(loaded), outputs(corrected))
        assert nncf.torch.get_config(loaded) == nncf.torch.get_config(corrected)

    def test_pickle(self, corrected):
        stream = io.BytesIO()
        torch.save(corrected, stream)
        stream.seek(0)
        np.testing.assert_array_equal(outputs(torch.load(stream, weights_only=False)), outputs(corrected))

    def test_compile(self, corrected):
        torch._dynamo.reset()
        compiled = torch.compile(corrected, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            torch.testing.assert_close(compiled(EXAMPLE), corrected(EXAMPLE))

    @pytest.mark.parametrize("strict", [False, True])
    def test_export(self, corrected, strict):
        program = torch.export.export(corrected, (EXAMPLE,), strict=strict)
        torch.testing.assert_close(program.module()(EXAMPLE), corrected(EXAMPLE))
        assert "gate.nncf_low_rank.down.weight_codes" in program.graph_signature.buffers

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    def test_openvino(self, corrected, tmp_path):
        for source in (corrected, torch.export.export(corrected, (EXAMPLE,))):
            model = openvino.convert_model(source, example_input=EXAMPLE if source is corrected else None)
            assert error(model) == pytest.approx(error(corrected), rel=1e-3)
            openvino.save_model(model, tmp_path / "model.xml")
            kinds = [str(op.get_element_type()) for op in model.get_ops() if op.get_type_name() == "Constant"]
            assert sum("int8" in kind or "u8" in kind for kind in kinds) >= 8

    def test_programs_convert_too(self):
        result = compressed("program")
        torch.testing.assert_close(
            torch.export.export(result.module(), (EXAMPLE,)).module()(EXAMPLE), result.module()(EXAMPLE)
        )

    def test_half_precision(self):
        module = copy.deepcopy(float_module()).half()
        corrected = nncf.compress_weights(
            module, Mode.INT4_ASYM, group_size=32, dataset=dataset(), lora_correction=True
        )
        with torch.no_grad():
            assert corrected(EXAMPLE).dtype is torch.float16
        assert error(corrected) == pytest.approx(error(compressed("torch")), rel=0.1)

    def test_the_float_model_is_described_as_before(self, corrected):
        """A second run sees the branches as layers of 8 bits, and nothing to do."""
        again = nncf.compress_weights(corrected, Mode.INT4_ASYM, group_size=32, dataset=dataset(), lora_correction=True)
        np.testing.assert_array_equal(outputs(again), outputs(corrected))
