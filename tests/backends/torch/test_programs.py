"""Exported programs and graph modules, compressed as graphs."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import nncf
from nncf import CompressWeightsMode as Mode
from nncf_core.graph import OpKind
from nncf_core.registry import registry
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import PointKind, TargetPoint
from tests.backends.torch.models import Functional, Tied, functional_input, normal, seeded, sequential
from tests.backends.torch.test_forms import MODES, constants_of, settings


def program_of(model, *args, **kwargs):
    return torch.export.export(model, args, kwargs)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_programs_hold_the_same_integers_as_modules(mode):
    model, x = sequential(), normal(3, 64)
    small = nncf.compress_weights(model, **settings(mode))
    program = nncf.compress_weights(program_of(model, x), **settings(mode))
    assert isinstance(program, torch.export.ExportedProgram)
    assert torch.equal(program.module()(x), small(x))
    assert set(program.state_dict) == set(small.state_dict())
    for name, tensor in small.state_dict().items():
        assert torch.equal(program.state_dict[name], tensor)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_programs_of_compressed_modules_are_recognised(mode):
    small, x = nncf.compress_weights(sequential(), **settings(mode)), normal(3, 64)
    found, wanted = constants_of(program_of(small, x)), constants_of(small)
    for name in ("0.weight", "2.weight", "4.weight"):
        assert found[name].compressed_format == wanted[name].compressed_format
        assert found[name].stored_bytes == wanted[name].stored_bytes
        assert np.array_equal(found[name].compressed().codes, wanted[name].compressed().codes)
        assert np.array_equal(found[name].read(), wanted[name].read())
    again = nncf.compress_weights(program_of(small, x))
    assert set(again.state_dict) == set(small.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype):
    model, x = sequential(dtype), normal(3, 64).to(dtype)
    small = nncf.compress_weights(model, Mode.INT4_SYM, group_size=32)
    program = nncf.compress_weights(program_of(model, x), Mode.INT4_SYM, group_size=32)
    assert torch.equal(program.module()(x), small(x))


def test_tied_weights_are_stored_once():
    tokens = torch.arange(6)[None]
    program = nncf.compress_weights(program_of(seeded(Tied()), tokens))
    assert sum(name.endswith("_codes") for name in program.state_dict) == 2
    assert torch.equal(program.module()(tokens), nncf.compress_weights(seeded(Tied()))(tokens))


def test_the_given_program_is_not_changed():
    x = normal(3, 64)
    program = program_of(sequential(), x)
    code, before = program.graph_module.code, {name: tensor.clone() for name, tensor in program.state_dict.items()}
    nncf.compress_weights(program, Mode.INT4_SYM, group_size=32)
    assert program.graph_module.code == code
    assert list(program.state_dict) == list(before)
    assert all(torch.equal(program.state_dict[name], tensor) for name, tensor in before.items())


def test_containers_and_weights_of_functions():
    model, feed = seeded(Functional()), functional_input()
    program = nncf.compress_weights(program_of(model, **feed), Mode.INT8_SYM)
    module = nncf.compress_weights(model, Mode.INT8_SYM, dataset=nncf.Dataset([feed]))
    found, wanted = program.module()(**feed), module(**feed)
    torch.testing.assert_close(found["out"], wanted["out"], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found["hidden"][1], wanted["hidden"][1])


def test_running_statistics_stay_the_users():
    model = seeded(nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8))).train()
    x = normal(2, 4, 9)
    small = nncf.compress_weights(program_of(model, x))
    small.module()(x)
    assert torch.equal(model[1].running_mean, torch.zeros(8))


def test_decomposed_programs_have_their_weights_found():
    program = program_of(sequential(), normal(3, 64)).run_decompositions()
    kinds = [
        node.kind
        for node in registry().backends["torch"].builder.build(registry().backends["torch"].builder.open(program, {}))
        if node.weights
    ]
    assert kinds == [OpKind.MATMUL] * 3
    small = nncf.compress_weights(program)
    x = normal(3, 64)
    torch.testing.assert_close(small.module()(x), nncf.compress_weights(sequential())(x))


class TestFiles:
    def test_files_are_compressed(self, tmp_path):
        x = normal(3, 64)
        torch.export.save(program_of(sequential(), x), tmp_path / "model.pt2")
        small = nncf.compress_weights(tmp_path / "model.pt2", Mode.INT4_SYM, group_size=32, all_layers=True)
        torch.export.save(small, tmp_path / "small.pt2")
        loaded = torch.export.load(tmp_path / "small.pt2")
        assert torch.equal(loaded.module()(x), small.module()(x))
        assert constants_of(tmp_path / "small.pt2")["0.weight"].compressed_format == "int4"
        assert (tmp_path / "small.pt2").stat().st_size < 0.55 * (tmp_path / "model.pt2").stat().st_size

    def test_files_that_are_cut_off_are_named_and_nothing_else_is_said(self, tmp_path, capfd):
        torch.export.save(program_of(sequential(), normal(3, 64)), tmp_path / "model.pt2")
        whole = (tmp_path / "model.pt2").read_bytes()
        for size in (0, 100, len(whole) // 2, len(whole) - 30):
            (tmp_path / "part.pt2").write_bytes(whole[:size])
            with pytest.raises(nncf.UnsupportedModelError, match=r"part\.pt2.*cut off"):
                nncf.compress_weights(tmp_path / "part.pt2")
        assert capfd.readouterr().err == ""

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_files_that_hold_something_else(self, tmp_path):
        import zipfile

        torch.save(sequential().state_dict(), tmp_path / "state.pt2")
        torch.jit.save(torch.jit.trace(sequential(), normal(3, 64)), tmp_path / "script.pt2")
        with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
            archive.writestr("a", "b")
        said = {"state": "torch.save, such as a state_dict", "script": "torch.jit.save", "other": "something else"}
        for name, what in said.items():
            with pytest.raises(nncf.UnsupportedModelError, match=rf"{what}.*torch\.export\.save\("):
                nncf.compress_weights(tmp_path / f"{name}.pt2")
        with pytest.raises(nncf.UnsupportedBackendError, match=r"'\.pt'.*torch\.export\.save\("):
            nncf.compress_weights(tmp_path / "state.pt")

    def test_modules_are_saved_as_programs_where_an_example_is_known(self, tmp_path):
        builder = registry().backends["torch"].builder
        model = builder.open(sequential(), {"example_input": normal(3, 64)})
        builder.save(model, tmp_path / "model.pt2")
        x = normal(5, 64)
        assert torch.equal(torch.export.load(tmp_path / "model.pt2").module()(x), sequential()(x))
        with pytest.raises(nncf.UnsupportedModelError, match="get_config"):
            builder.save(sequential(), tmp_path / "model.pt2")


class TestGraphModules:
    def test_of_export(self):
        x = normal(3, 64)
        module = program_of(sequential(), x).module()
        small = nncf.compress_weights(module, Mode.INT4_SYM, group_size=32)
        assert isinstance(small, torch.fx.GraphModule)
        assert torch.equal(small(x), nncf.compress_weights(sequential(), Mode.INT4_SYM, group_size=32)(x))
        assert "0.weight_codes" in small.state_dict()
        assert "0.weight" not in small.state_dict()
        assert "0.weight" in module.state_dict()

    def test_of_symbolic_tracing(self):
        module, x = torch.fx.symbolic_trace(sequential()), normal(3, 64)
        small = nncf.compress_weights(module)
        assert isinstance(small, torch.fx.GraphModule)
        assert torch.equal(small(x), nncf.compress_weights(sequential())(x))

    def test_parameters_that_a_symbolic_graph_reads_are_left(self):
        class Product(nn.Module):
            def __init__(self):
                super().__init__()
                self.w, self.layer = nn.Parameter(torch.empty(64, 64)), nn.Linear(64, 64)

            def forward(self, x):
                return self.layer(x @ self.w)

        module, x = torch.fx.symbolic_trace(seeded(Product())), normal(3, 64)
        small = nncf.compress_weights(module, dataset=nncf.Dataset([x]))
        copied = copy.deepcopy(small)
        assert {"w", "layer.weight_codes"} <= set(copied.state_dict())
        assert torch.equal(copied(x), small(x))


def test_tensors_are_looked_at_before_they_are_changed_in_place():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(32, 32)

        def forward(self, x):
            return self.layer(x).relu_() + 1

    network, x = Network().eval(), torch.randn(4, 32)
    backend = registry().backends["torch"]
    working = backend.builder.open(torch.export.export(network, (x,)), {})
    graph = backend.builder.build(working)
    (layer,) = (node for node in graph if node.weights)
    point = TargetPoint(layer.name)
    part = backend.inserter.extract(working, [TargetPoint(layer.name, PointKind.INPUT)], [point])
    found = backend.inserter.runner(part)({str(TargetPoint(layer.name, PointKind.INPUT)): x.numpy()})[str(point)]
    with torch.no_grad():
        np.testing.assert_array_equal(found, network.layer(x).numpy())
    request = StatisticsRequest(point, "min", None)
    statistics = backend.aggregator.collect(working, graph, [request], [x])
    assert statistics[request] == found.min() < 0
