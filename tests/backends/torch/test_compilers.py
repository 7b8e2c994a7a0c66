"""Compressed modules in what takes PyTorch models: compilers, exporters, copies, OpenVINO."""

import copy
import io
import platform
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import nncf
from nncf import CompressWeightsMode as Mode
from tests.backends.torch.models import Functional, Tied, functional_input, normal, seeded, sequential
from tests.backends.torch.test_forms import MODES, settings
from tests.variants import variants


@pytest.fixture(autouse=True)
def _compile_anew():
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def functional():
    dataset = nncf.Dataset([functional_input()])
    return nncf.compress_weights(seeded(Functional()), Mode.INT4_ASYM, group_size=32, all_layers=True, dataset=dataset)


class TestCompile:
    @pytest.mark.parametrize("mode", MODES, ids=str)
    def test_whole_graphs_are_captured_in_every_mode(self, mode):
        small, x = nncf.compress_weights(sequential(), **settings(mode)), normal(3, 64)
        compiled = torch.compile(small, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), small(x))

    def test_shared_weights_and_weights_of_functions(self, functional):
        small, tokens = nncf.compress_weights(seeded(Tied()), Mode.INT4_SYM, group_size=32), torch.arange(6)[None]
        with torch.no_grad():
            compiled = torch.compile(small, fullgraph=True, backend="aot_eager")
            torch.testing.assert_close(compiled(tokens), small(tokens))
            compiled = torch.compile(functional, fullgraph=True, backend="aot_eager")
            feed = functional_input()
            torch.testing.assert_close(compiled(**feed)["out"], functional(**feed)["out"], rtol=1e-4, atol=1e-3)

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
    @pytest.mark.filterwarnings("ignore")
    def test_inductor_compiles_them(self):
        small, x = nncf.compress_weights(sequential(), Mode.INT4_SYM, group_size=32, all_layers=True), normal(3, 64)
        with torch.no_grad():
            torch.testing.assert_close(torch.compile(small, fullgraph=True)(x), small(x), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
@pytest.mark.parametrize("mode", [Mode.INT8_ASYM, Mode.INT4_ASYM, Mode.INT3_SYM], ids=str)
def test_torchscript_traces_them_without_warnings(mode):
    small, tokens = nncf.compress_weights(seeded(Tied()), **settings(mode)), torch.arange(6)[None]
    traced = torch.jit.trace(small, (tokens,))
    with torch.no_grad():
        torch.testing.assert_close(traced(tokens), small(tokens))


class TestExport:
    @pytest.mark.parametrize("strict", [False, True])
    @pytest.mark.parametrize("mode", [Mode.INT8_ASYM, Mode.INT4_SYM, Mode.NF4], ids=str)
    def test_programs_hold_the_codes(self, mode, strict):
        small, x = nncf.compress_weights(sequential(), **settings(mode)), normal(3, 64)
        program = torch.export.export(small, (x,), strict=strict)
        assert "0.weight_codes" in program.graph_signature.buffers
        assert "0.weight" not in program.state_dict
        torch.testing.assert_close(program.module()(x), small(x))

    def test_weights_of_functions(self, functional):
        feed = functional_input()
        program = torch.export.export(functional, (), feed)
        torch.testing.assert_close(program.module()(**feed)["out"], functional(**feed)["out"], rtol=1e-4, atol=1e-3)


class TestCopies:
    @pytest.mark.parametrize("mode", [Mode.INT8_SYM, Mode.INT4_ASYM, Mode.MXFP4], ids=str)
    def test_deepcopy_and_pickle(self, mode):
        small, x = nncf.compress_weights(sequential(), **settings(mode)), normal(3, 64)
        file = io.BytesIO()
        torch.save(small, file)
        file.seek(0)
        for other in (copy.deepcopy(small), torch.load(file, weights_only=False)):
            assert type(other[0]) is type(small[0])
            assert torch.equal(other(x), small(x))
            assert other[0].weight_codes.data_ptr() != small[0].weight_codes.data_ptr()

    def test_copies_keep_ties(self):
        copied = copy.deepcopy(nncf.compress_weights(seeded(Tied())))
        assert copied.embedding.weight_codes is copied.head.weight_codes

    def test_functional_calls(self):
        small, x = nncf.compress_weights(sequential()), normal(3, 64)
        assert torch.equal(torch.func.functional_call(small, dict(small.state_dict()), (x,)), small(x))

    def test_compressed_again_nothing_happens(self):
        small = nncf.compress_weights(sequential())
        again = nncf.compress_weights(small, Mode.INT4_SYM, group_size=32, all_layers=True)
        assert list(again.state_dict()) == list(small.state_dict())


def openvino_types(model):
    """Element types of all constants with at least two axes."""
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant" and len(op.shape) > 1]
    return {constant.get_element_type().get_type_name() for constant in constants if np.prod(constant.shape) > 256}


class TableAndLinear(nn.Module):
    """The ways that a weight is read: by rows, and in a product."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 32)
        self.linear = nn.Linear(32, 16)

    def forward(self, tokens, x):
        return self.table(tokens), self.linear(x)


PACKINGS = (Mode.INT8_ASYM, Mode.INT4_SYM, Mode.NF4)
"""Modes of whole bytes, of half bytes, and of a table: the other ways to unpack codes are slow tests."""

EXACT = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "INFERENCE_PRECISION_HINT": "f32"}


def executed_types(model):
    """Element types of the weights that the CPU multiplies by."""
    import openvino

    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    nodes = compiled.get_runtime_model().get_ordered_ops()
    layers = [node for node in nodes if node.get_rt_info()["layerType"].astype(str) in ("FullyConnected", "MatMul")]
    return [layer.input(1).get_element_type().to_string() for layer in layers]


@pytest.mark.needs("openvino")
@pytest.mark.filterwarnings("ignore")
class TestOpenVINO:
    @pytest.mark.parametrize(
        ("mode", "type_"),
        [
            (Mode.INT8_ASYM, "u8"),
            (Mode.INT8_SYM, "i8"),
            (Mode.INT4_ASYM, "u4"),
            (Mode.INT4_SYM, "u4"),
            (Mode.FP8_E4M3, "f8e4m3"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("dtype", variants([torch.float32, torch.float16], torch.float32), ids=str)
    def test_constants_stay_compressed(self, mode, type_, dtype):
        import openvino

        small, x = nncf.compress_weights(sequential(dtype), **settings(mode)), normal(3, 64).to(dtype)
        model = openvino.convert_model(small, example_input=(x,), input=[-1, 64])
        assert openvino_types(model) == {type_}
        (found,) = openvino.compile_model(model, "CPU", EXACT)([x.numpy()]).values()
        wanted = small(x).detach().float().numpy()
        np.testing.assert_allclose(found.astype(np.float32), wanted, atol=0.02 * np.abs(wanted).max())

    @pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other CPUs decompress")
    @pytest.mark.parametrize(
        ("mode", "type_"),
        [(Mode.INT8_ASYM, "u8"), (Mode.INT8_SYM, "i8"), (Mode.INT4_ASYM, "u4"), (Mode.INT4_SYM, "u4")],
        ids=str,
    )
    def test_they_run_compressed(self, mode, type_):
        import openvino

        small = nncf.compress_weights(sequential(), **settings(mode))
        model = openvino.convert_model(small, example_input=(normal(3, 64),), input=[-1, 64])
        assert executed_types(model) == [type_] * 3

    @pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other CPUs decompress")
    @pytest.mark.parametrize(
        ("mode", "type_"),
        [(Mode.INT8_ASYM, "u8"), (Mode.INT8_SYM, "i8"), (Mode.INT4_SYM, "f32")],
        ids=str,
    )
    def test_programs_run_compressed_in_8_bits(self, mode, type_):
        import openvino

        program = torch.export.export(nncf.compress_weights(sequential(), **settings(mode)), (normal(3, 64),))
        assert executed_types(openvino.convert_model(program, input=[-1, 64])) == [type_] * 3

    @pytest.mark.parametrize(
        "mode", variants([Mode.NF4, Mode.CB4, Mode.MXFP4, Mode.INT3_SYM, Mode.INT2_SYM], Mode.NF4), ids=str
    )
    def test_other_formats_are_converted(self, mode):
        import openvino

        small, x = nncf.compress_weights(sequential(), **settings(mode)), normal(3, 64)
        model = openvino.convert_model(small, example_input=(x,), input=[-1, 64])
        (found,) = openvino.compile_model(model, "CPU", EXACT)([x.numpy()]).values()
        wanted = small(x).detach().numpy()
        np.testing.assert_allclose(found, wanted, atol=0.01 * np.abs(wanted).max())

    @pytest.mark.parametrize("mode", variants([Mode.INT8_ASYM, Mode.INT4_ASYM, Mode.INT4_SYM], Mode.INT4_SYM), ids=str)
    def test_programs_stay_packed(self, mode):
        import openvino

        x = normal(3, 64)
        program = torch.export.export(nncf.compress_weights(sequential(), **settings(mode)), (x,))
        assert openvino_types(openvino.convert_model(program)) == {"u8"}
        edited = nncf.compress_weights(torch.export.export(sequential(), (x,)), **settings(mode))
        model = openvino.convert_model(edited, input=[3, 64])
        assert openvino_types(model) == {"u8"}
        (found,) = openvino.compile_model(model, "CPU", EXACT)([x.numpy()]).values()
        wanted = edited.module()(x).detach().numpy()
        np.testing.assert_allclose(found, wanted, atol=0.01 * np.abs(wanted).max())

    @pytest.mark.parametrize("way", ["module", "program"])
    @pytest.mark.parametrize("mode", variants(MODES, *PACKINGS))
    def test_converted_models_give_the_same_numbers(self, mode, way):
        import openvino

        small = nncf.compress_weights(seeded(TableAndLinear()), **settings(mode))
        assert all(nncf.build_graph(small).constants[f"{name}.weight"].compressed for name in ("table", "linear"))
        inputs = torch.arange(40).reshape(2, 20), normal(3, 32)
        given = torch.export.export(small, inputs) if way == "program" else small
        model = openvino.convert_model(given, example_input=inputs, input=[[2, 20], [3, 32]])
        outputs = openvino.compile_model(model, "CPU", EXACT)([x.numpy() for x in inputs]).values()
        for found, wanted in zip(outputs, small(*inputs), strict=True):
            wanted = wanted.detach().numpy()
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())

    def test_a_tied_table_is_one_constant(self):
        import openvino

        small, tokens = nncf.compress_weights(seeded(Tied())), torch.arange(6)[None]
        model = openvino.convert_model(small, example_input=(tokens,))
        assert openvino_types(model) == {"u8"}


@pytest.mark.needs("onnxruntime")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", [Mode.INT8_SYM, Mode.INT4_ASYM, Mode.FP8_E4M3, Mode.MXFP8_E4M3], ids=str)
def test_onnx_takes_them(mode):
    import onnxruntime

    small, x = nncf.compress_weights(sequential(), **settings(mode)), normal(3, 64)
    file = io.BytesIO()
    torch.onnx.export(small, (x,), dynamo=True, verbose=False).save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, small(x).detach().numpy(), atol=1e-4)
