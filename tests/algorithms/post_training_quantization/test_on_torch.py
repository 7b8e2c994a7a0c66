"""Quantized PyTorch models: what they compute, how they train, and what they are converted to."""

from __future__ import annotations

import copy
import io
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import nncf
from nncf import AdvancedQuantizationParameters, StripFormat
from nncf_core.graph import OpKind
from nncf_core.registry import registry
from tests.backends.digits import Convolutions, accuracy, convolutions, images, train, transformer
from tests.variants import variants


def data(count: int = 20) -> nncf.Dataset:
    return nncf.Dataset(list(images()[0][:count].split(1)))


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).detach().norm() / wanted.detach().norm())


def options(**given: Any) -> AdvancedQuantizationParameters:
    return AdvancedQuantizationParameters(backend_params=given)


def random_items(*shape: int, count: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for _ in range(count)]


@pytest.fixture(scope="module")
def quantized() -> nn.Module:
    return nncf.quantize(convolutions(), data())


@pytest.fixture(scope="module")
def test_images() -> torch.Tensor:
    return images()[2]


class TestModules:
    def test_accuracy_is_kept(self, quantized, test_images):
        assert accuracy(quantized) >= accuracy(convolutions()) - 0.01
        assert 0 < difference(quantized(test_images), convolutions()(test_images)) < 0.1

    def test_class_and_names_stay(self, quantized):
        assert isinstance(quantized, Convolutions)
        assert (type(quantized).__name__, type(quantized).__module__) == ("Convolutions", Convolutions.__module__)
        assert quantized.forward.__func__ is Convolutions.forward
        kept = {name for name in convolutions().state_dict() if "norm" not in name}
        assert kept <= set(quantized.state_dict())

    def test_the_argument_and_random_numbers_stay_as_they_are(self):
        model = copy.deepcopy(convolutions()).train()
        model.stem.eval()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        modes = [module.training for module in model.modules()]
        state = torch.get_rng_state()
        nncf.quantize(model, data(3))
        assert torch.equal(torch.get_rng_state(), state)
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert not any(m._forward_pre_hooks or m._forward_hooks or m._parameters.keys() & {"weight_scale"}
                       for m in model.modules())  # fmt: skip

    def test_training_does_not_reach_the_argument(self, program):
        for given in (convolutions(), program):
            own = given.state_dict() if isinstance(given, nn.Module) else given.state_dict
            before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in own.items()}
            result = nncf.quantize(given, data(3))
            parameters = result.parameters()
            assert not {parameter.data_ptr() for parameter in parameters} & {place for place, _ in before.values()}
            own = given.state_dict() if isinstance(given, nn.Module) else given.state_dict
            for name, (place, value) in before.items():
                assert own[name].data_ptr() == place
                assert torch.equal(own[name], value)

    def test_weights_hold_127_steps_in_each_channel(self, quantized):
        """And two neighbouring inputs together 128."""
        weight = quantized.first.weight.detach()
        steps = torch.cat([weight[:, k : k + 2].sum(1).abs().amax((1, 2))[None] for k in range(0, weight.shape[1], 2)])
        wanted = torch.maximum(weight.abs().amax((1, 2, 3)) / 127, steps.amax(0) / 128)
        torch.testing.assert_close(quantized.first.weight_scale.detach(), wanted)

    def test_ranges_are_those_of_the_data(self):
        items = [item * 3 - 1 for item in images()[0][:20].split(1)]
        result = nncf.quantize(convolutions(), nncf.Dataset(items))
        low, high = np.mean([item.min() for item in items]), np.mean([item.max() for item in items])
        state = result.stem.state_dict()
        scale, zero_point = (float(state[f"conv2d_0_input_0_{part}"]) for part in ("scale", "zero_point"))
        assert scale == pytest.approx((high - low) / 255, rel=0.01)
        assert zero_point == pytest.approx(-low / scale, abs=1)

    def test_a_module_that_runs_twice_has_ranges_for_each_time(self, quantized):
        points = [q["point"]["node"] for q in _quantizers(quantized)]
        assert {"relu/2", "relu_/0"} <= set(points)  # before the first run, and before the second
        assert list(dict(quantized.twice.named_parameters())) == ["weight", "bias", "weight_scale"]

    def test_a_weight_is_rounded_once_for_all_who_share_it(self):
        class Shared(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
                self.b.weight = self.a.weight

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.b(torch.relu(self.a(x))) + functional.linear(x, self.a.weight)

        torch.manual_seed(0)
        model, items = Shared().eval(), random_items(4, 8)
        result = nncf.quantize(model, nncf.Dataset(items))
        assert result.a.weight is result.b.weight
        assert result.a.weight_scale is result.b.weight_scale
        assert 0 < difference(result(items[0]), model(items[0])) < 0.1
        result(items[0]).sum().backward()
        # what lies at an end of the range gets none
        assert ((result.a.weight.grad == 0).sum(dim=1) <= 1).all()

    def test_functions_and_changes_in_place(self):
        class Functions(nn.Module):
            def __init__(self, in_place: bool) -> None:
                super().__init__()
                self.in_place = in_place
                self.kernel, self.matrix = nn.Parameter(torch.empty(8, 4, 3)), nn.Parameter(torch.empty(8, 6))
                nn.init.normal_(self.kernel, generator=torch.Generator().manual_seed(1))
                nn.init.normal_(self.matrix, generator=torch.Generator().manual_seed(2))

            def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
                y = functional.conv1d(x, self.kernel, padding=1)
                if self.in_place:
                    y.relu_()  # its result is not used
                else:
                    y = torch.relu(y)
                return {"out": torch.matmul(y.transpose(1, 2), other=self.matrix)}

        items = random_items(2, 4, 10)
        changed, plain = (nncf.quantize(Functions(in_place).eval(), nncf.Dataset(items)) for in_place in (True, False))
        points = [(q["point"]["node"], q["point"]["kind"]) for q in _quantizers(changed)]
        assert points == [("conv1d/0", "input"), ("relu_/0", "output")]
        found, wanted = changed(items[0])["out"], Functions(False)(items[0])["out"]
        assert torch.equal(found, plain(items[0])["out"])
        assert 0 < difference(found, wanted) < 0.1
        found.sum().backward()
        assert changed.kernel.grad.abs().max() > 0

    def test_attention_of_pytorch_is_looked_into(self):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
        items = random_items(2, 7, 32)
        result = nncf.quantize(layer, nncf.Dataset(items))
        assert {"in_proj_weight_scale", "out_proj.weight_scale"} <= set(result.self_attn.state_dict())
        assert 0 < difference(result(items[0]), layer(items[0])) < 0.02

    def test_half_precision(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).eval()
        items = random_items(4, 64)
        wanted = nncf.quantize(model, nncf.Dataset(items))(items[0])
        half = nncf.quantize(copy.deepcopy(model).half(), nncf.Dataset([item.half() for item in items]))
        assert half(items[0].half()).dtype is torch.float16
        assert difference(half(items[0].half()).float(), wanted) < 0.02
        assert torch.isfinite(nncf.quantize(model, nncf.Dataset(items)).half()(items[0].half())).all()

    def test_ignored_nodes(self):
        result = nncf.quantize(convolutions(), data(3), ignored_scope=nncf.IgnoredScope(names=["first/conv2d/0"]))
        assert "weight_scale" not in dict(result.first.named_parameters())
        assert "weight_scale" in dict(result.stem.named_parameters())

    @pytest.mark.parametrize("trace", ["hooks", "export"])
    def test_both_ways_of_tracing_give_the_same(self, trace, quantized, test_images):
        items = nncf.Dataset(list(images()[0][:20].split(2)))
        wanted = nncf.quantize(convolutions(), items)
        result = nncf.quantize(convolutions(), items, advanced_parameters=options(trace=trace))
        assert torch.equal(result(test_images), wanted(test_images))

    def test_a_run_that_fails_leaves_nothing_behind(self, quantized, test_images):
        wanted = quantized(test_images)
        with pytest.raises(RuntimeError):
            quantized(torch.zeros(1, 2, 8, 8))
        assert not torch.overrides._get_current_function_mode_stack()
        assert torch.equal(quantized(test_images), wanted)

    def test_torch_compile_is_refused(self, quantized, test_images):
        with pytest.raises(nncf.UnsupportedModelError, match=r"torch\.export"):
            torch.compile(quantized, backend="eager")(test_images)
        program = torch.export.export(quantized, (test_images,)).module()
        torch.testing.assert_close(torch.compile(program, backend="eager")(test_images), quantized(test_images))
        torch._dynamo.reset()

    def test_graphs_that_call_modules_are_refused(self):
        with pytest.raises(nncf.ParameterNotSupportedError, match=r"torch\.export"):
            nncf.quantize(torch.fx.symbolic_trace(convolutions()), data(3))


def _quantizers(model: nn.Module) -> list[dict[str, Any]]:
    states = nncf.torch.get_config(model)["compression_state"]
    return next(s["module_config"]["quantizers"] for s in states if s["module_cls_name"] == "QuantizedModule")


class TestBatchNorm:
    def test_it_is_folded(self, quantized):
        names = [name for name, _ in quantized.named_parameters()]
        assert not any("norm" in name for name in names)
        # the layer had no bias
        assert "stem.bias" in names

    def test_it_can_be_left(self, test_images):
        result = nncf.quantize(convolutions(), data(), advanced_parameters=options(fold_batch_norm=False))
        assert "stem_norm.running_mean" in result.state_dict()
        assert difference(result(test_images), convolutions()(test_images)) < 0.1
        assert torch.equal(result.stem.weight, convolutions().stem.weight)

    @pytest.mark.parametrize("kind", ["module", "program"])
    def test_of_linear_layers_and_of_results_that_others_take(self, kind):
        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.norm_a = nn.Linear(12, 8), nn.BatchNorm1d(8)
                self.b, self.norm_b = nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False)
                self.c, self.norm_c = nn.Linear(8, 8), nn.BatchNorm1d(8)

            def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                x = torch.relu(self.norm_a(self.a(x)))
                x = torch.relu(self.norm_b(self.b(x)))
                y = self.c(x)
                return self.norm_c(y) + torch.relu(y), x

        torch.manual_seed(0)
        model = Network()
        for _ in range(30):
            model(torch.randn(16, 12) * 2 + 1)
        model.eval()
        items = random_items(16, 12)
        given = model if kind == "module" else torch.export.export(model, (items[0],))
        result = nncf.quantize(given, nncf.Dataset(items))
        names = {name.partition(".")[0] for name in (result if kind == "module" else result.module()).state_dict()}
        assert not names & {"norm_a", "norm_b"}
        assert "norm_c" in names
        found = (result if kind == "module" else result.module())(items[0])
        assert all(0 < difference(a, b) < 0.1 for a, b in zip(found, model(items[0]), strict=True))

    def test_of_results_that_leave_the_model(self, caplog):
        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.norm = nn.Linear(12, 8), nn.BatchNorm1d(8)

            def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                x = self.a(x)
                return x, self.norm(x)

        model = Network()
        model(torch.randn(16, 12) * 2 + 1)
        model.eval()
        items = random_items(16, 12)
        result = nncf.quantize(model, nncf.Dataset(items))
        assert any("not folded" in message for message in caplog.messages)
        assert all(difference(a, b) < 0.02 for a, b in zip(result(items[0]), model(items[0]), strict=True))


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    return torch.export.export(convolutions(), (images()[0][:3],), dynamic_shapes=({0: torch.export.Dim.AUTO},))


class TestPrograms:
    def test_they_compute_what_the_module_does(self, program, quantized, test_images):
        result = nncf.quantize(program, data())
        assert isinstance(result, torch.export.ExportedProgram)
        torch.testing.assert_close(result.module()(test_images), quantized(test_images), rtol=1e-5, atol=1e-5)
        module = nncf.quantize(program.module(), data())
        assert isinstance(module, torch.fx.GraphModule)
        torch.testing.assert_close(module(test_images), quantized(test_images), rtol=1e-5, atol=1e-5)

    def test_they_are_saved(self, program, test_images, tmp_path):
        result = nncf.quantize(program, data(5))
        torch.export.save(result, tmp_path / "model.pt2")
        restored = torch.export.load(tmp_path / "model.pt2")
        assert torch.equal(restored.module()(test_images), result.module()(test_images))

    def test_weights_of_quantized_modules_are_recognised(self, quantized, test_images):
        program = torch.export.export(quantized, (test_images[:2],))
        constants = nncf.build_graph(program).constants
        wanted = nncf.build_graph(quantized).constants["first.weight"].compressed()
        assert constants["first.weight"].compressed_format == "int8"
        assert np.array_equal(constants["first.weight"].compressed().codes, wanted.codes)
        again = nncf.compress_weights(program)
        assert torch.equal(again.module()(test_images[:2]), program.module()(test_images[:2]))

    def test_weights_are_trained(self, program, test_images):
        module = nncf.quantize(program, data(5)).module()
        module(test_images).sum().backward()
        assert all(parameter.grad is not None for parameter in module.parameters())


class TestTraining:
    def test_gradients_reach_weights_and_ranges(self, quantized, test_images):
        model = copy.deepcopy(quantized)
        functional.cross_entropy(model(test_images), images()[3]).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name

    def test_training_recovers_what_bad_ranges_lost(self):
        model = nncf.quantize(convolutions(), data())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("_scale"):
                    parameter *= 6  # integers of 5 bits, so to say
        x, y, _, _ = images()
        with torch.no_grad():
            before = float(functional.cross_entropy(model(x), y))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            train(model, 2, 1e-3)
        with torch.no_grad():
            after = float(functional.cross_entropy(model(x), y))
        assert after < 0.5 * before
        assert accuracy(model) > 0.95
        # the codes are read from what has been trained
        constant = nncf.build_graph(model).constants["first.weight"]
        restored = constant.compressed()
        assert np.abs(restored.codes.view(np.int8)).max() <= 127
        scale = model.first.weight_scale.detach().abs().numpy()
        np.testing.assert_allclose(restored.scale.reshape(-1), scale, rtol=1e-6)


class TestSaving:
    def test_config_and_state_dict(self, quantized, test_images, tmp_path):
        from safetensors.torch import load_file, save_file

        save_file(quantized.state_dict(), tmp_path / "weights.safetensors")
        config = json.loads(json.dumps(nncf.torch.get_config(quantized)))
        restored = nncf.torch.load_from_config(Convolutions().eval(), config)
        restored.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(restored(test_images), quantized(test_images))
        assert nncf.torch.get_config(restored) == config
        assert all(parameter.requires_grad for parameter in restored.parameters())

    def test_as_a_part_of_another_model(self, quantized, test_images):
        outer = nn.Sequential(quantized, nn.Softmax(-1))
        config = json.loads(json.dumps(nncf.torch.get_config(outer)))
        restored = nncf.torch.load_from_config(nn.Sequential(Convolutions(), nn.Softmax(-1)).eval(), config)
        restored.load_state_dict(outer.state_dict())
        assert torch.equal(restored(test_images), outer(test_images))

    def test_of_another_model(self, quantized):
        with pytest.raises(nncf.ValidationError, match="does not fit"):
            nncf.torch.load_from_config(nn.Linear(2, 2), nncf.torch.get_config(quantized))

    def test_copies_and_pickles(self, quantized, test_images):
        file = io.BytesIO()
        torch.save(quantized, file)
        file.seek(0)
        for other in (copy.deepcopy(quantized), torch.load(file, weights_only=False)):
            assert torch.equal(other(test_images), quantized(test_images))

    @pytest.mark.parametrize("form", list(StripFormat))
    def test_strip(self, form, quantized, test_images):
        stripped = nncf.strip(quantized, strip_format=form)
        torch.testing.assert_close(stripped(test_images), quantized(test_images), rtol=1e-5, atol=1e-5)
        state = stripped.state_dict()
        if form is StripFormat.DQ:
            assert state["first.weight_codes"].dtype is torch.int8
            assert "first.weight" not in state
        elif form is StripFormat.IN_PLACE:
            steps = state["first.weight"] / quantized.state_dict()["first.weight_scale"].reshape(-1, 1, 1, 1)
            torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
            assert "first.weight_scale" not in state
        else:
            assert list(state) == list(quantized.state_dict())


@pytest.fixture(scope="module", params=["convolutions", "transformer"])
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor]:
    x = images()[2][:8]
    model = convolutions() if request.param == "convolutions" else transformer()
    x = x if request.param == "convolutions" else (x.flatten(1) * 16).long()
    return nncf.quantize(model, nncf.Dataset(list(x.split(1)))), x


def openvino_weights(model: Any) -> set[str]:
    """Element types of the operands of layers."""
    found = set()
    for op in model.get_ops():
        if op.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            node = op.input_value(1).get_node()
            while node.get_input_size() and node.get_type_name() in ("Multiply", "Convert", "Reshape", "Transpose"):
                node = node.input_value(0).get_node()
            if node.get_type_name() == "Constant":
                found.add(node.get_element_type().get_type_name())
    return found


@pytest.mark.filterwarnings("ignore")
class TestConversion:
    @pytest.mark.needs("openvino")
    @pytest.mark.parametrize("way", variants(["module", "program", "stripped"], "module"))
    def test_openvino(self, case, way):
        import openvino

        model, x = case
        count = sum(node.kind is OpKind.QUANTIZE for node in nncf.build_graph(model, example_input=x))
        given = {
            "module": model,
            "program": torch.export.export(model, (x,)) if way == "program" else None,
            "stripped": nncf.strip(model, strip_format=StripFormat.DQ),
        }[way]
        converted = openvino.convert_model(given, **({} if way == "program" else {"example_input": x}))
        types = Counter(op.get_type_name() for op in converted.get_ops())
        assert types["FakeQuantize"] == count
        assert openvino_weights(converted) == {"i8"}
        running = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        wanted = model(x).detach().numpy()
        found = running([x.numpy()])[0]
        assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)

    @pytest.mark.needs("onnxruntime", "onnxscript")
    @pytest.mark.parametrize("way", variants(["module", "program", "stripped"], "stripped"))
    def test_onnx(self, case, way):
        import onnx
        import onnxruntime

        model, x = case
        count = sum(node.kind is OpKind.QUANTIZE for node in nncf.build_graph(model, example_input=x))
        given = nncf.strip(model, strip_format=StripFormat.DQ) if way == "stripped" else model
        given = torch.export.export(given, (x,)) if way == "program" else given
        stream = io.BytesIO()
        torch.onnx.export(given, (x,), dynamo=True, opset_version=21, verbose=False).save(stream)
        types = Counter(node.op_type for node in onnx.load_model_from_string(stream.getvalue()).graph.node)
        assert types["QuantizeLinear"] >= count
        assert types["DequantizeLinear"] >= count
        session_options = onnxruntime.SessionOptions()
        session_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(stream.getvalue(), session_options)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        # a number between two integers may go either way
        assert np.linalg.norm(found - model(x).detach().numpy()) < 0.01 * np.linalg.norm(found)


class TestErrors:
    def test_an_empty_dataset(self):
        with pytest.raises(nncf.UnsupportedDatasetError, match="no items"):
            nncf.quantize(convolutions(), nncf.Dataset([]))

    def test_a_model_that_is_not_to_be_run(self):
        with pytest.raises(nncf.ValidationError, match="structure"):
            nncf.quantize(convolutions(), data(3), advanced_parameters=options(trace="structure"))

    def test_a_device_that_does_not_exist(self):
        backend = registry().backends["torch"]
        with pytest.raises(nncf.ParameterNotSupportedError, match="target_device"):
            backend.inserter.quantization_setup("TPU")

    def test_an_item_that_does_not_fit(self):
        with pytest.raises(nncf.UnsupportedDatasetError, match="Item 2"):
            nncf.quantize(convolutions(), nncf.Dataset([*images()[0][:2].split(1), torch.zeros(1, 2, 8, 8)]))

    def test_no_number(self):
        bad = images()[0][:2].clone()
        bad[1, 0, 0, 0] = torch.nan
        with pytest.raises(nncf.ValidationError, match="holds NaN"):
            nncf.quantize(convolutions(), nncf.Dataset(list(bad.split(1))))
