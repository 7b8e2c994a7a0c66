"""What users are told when they give PyTorch modules what these cannot take: what is wrong, where, and what to do."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import nncf
import nncf.torch
from nncf_core.errors import (
    NNCFError,
    ParameterNotSupportedError,
    UnsupportedBackendError,
    UnsupportedDatasetError,
    UnsupportedModelError,
    ValidationError,
)

pytestmark = pytest.mark.needs(
    "nncf_weight_compression",
    "nncf_magnitude_sparsity",
    "nncf_rb_sparsity",
    "nncf_knowledge_distillation",
    "nncf_post_training_quantization",
)
SECTION = {"algorithm": "magnitude_sparsity", "sparsity_init": 0.5, "params": {"sparsity_target": 0.5}}
CONFIG: dict[str, Any] = {"input_info": {"sample_size": [1, 32]}, "compression": SECTION}
X = torch.ones(2, 32)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8))


def in_training() -> tuple[Any, nn.Module]:
    return nncf.torch.create_compressed_model(network(), CONFIG)


def with_options(**options: Any) -> nn.Module:
    advanced = nncf.AdvancedCompressionParameters(backend_params=options)
    return nncf.compress_weights(network(), advanced_parameters=advanced)


def with_adapters() -> nn.Module:
    return nncf.compress_weights(
        network(),
        mode=nncf.CompressWeightsMode.INT4_SYM,
        group_size=16,
        compression_format=nncf.CompressionFormat.FQ_LORA_NLS,
        dataset=nncf.Dataset([X]),
        advanced_parameters=nncf.AdvancedCompressionParameters(lora_adapter_rank=4),
    )


def loaded(change: Callable[[dict[str, Any]], None]) -> nn.Module:
    config = nncf.torch.get_config(nncf.compress_weights(network()))
    change(config["compression_state"][0])
    return nncf.torch.load_from_config(network(), config)


def uncopied() -> nn.Module:
    model = network()
    model.lock = threading.Lock()
    return model


def created(**more: Any) -> Any:
    return nncf.torch.create_compressed_model(network(), {**CONFIG, **more})


def other_state() -> Any:
    _, model = in_training()
    return nncf.torch.load_state(model, {"some.weight": torch.ones(3)}, is_resume=True)


def several() -> Any:
    sections = [{"algorithm": "knowledge_distillation", "type": "mse"}, {"algorithm": "rb_sparsity"}]
    return nncf.torch.create_compressed_model(network(), {**CONFIG, "compression": sections})[0]


def normalized() -> nn.Module:
    return nn.Sequential(network(), nn.BatchNorm1d(8))


def exported(folder: Path, name: str, save_format: str | None = None, **names: Any) -> Any:
    controller, _ = in_training()
    return controller.export_model(folder / name, save_format, **names)


CASES: dict[str, tuple[Callable[[Path], Any], type[NNCFError], list[str]]] = {
    "option": (lambda _: with_options(nothing=1), ValidationError, ["backend_params", "'nothing'", "it knows"]),
    "trace": (lambda _: with_options(trace="some"), ValidationError, ["trace is 'some'", "it must be one of"]),
    "trace without input": (
        lambda _: with_options(trace="export"),
        ValidationError,
        ["trace='export'", "backend_params['example_input']"],
    ),
    "input without a keyword": (
        lambda _: created(input_info=[{"sample_size": [1, 32], "keyword": "input"}, {"sample_size": [1, 32]}]),
        ValidationError,
        ["input_info", "either all inputs have a 'keyword', or none"],
    ),
    "input without a size": (
        lambda _: created(input_info={"type": "float"}),
        ValidationError,
        ["input_info", "sample_size"],
    ),
    "input of a type that is none": (
        lambda _: created(input_info={"sample_size": [1, 32], "type": "floaty"}),
        ValidationError,
        ["input_info", "floaty", "float"],
    ),
    "state of a program": (
        lambda _: nncf.torch.load_state(torch.export.export(network(), (X,)), {}),
        ValidationError,
        ["ExportedProgram has no state", "give the torch.nn.Module"],
    ),
    "ONNX of a program": (
        lambda _: nncf.torch.export_onnx(torch.export.export(network(), (X,)), (X,)),
        UnsupportedModelError,
        ["ExportedProgram is no torch.nn.Module", "export_onnx"],
    ),
    "activations without a trace": (
        lambda _: nncf.quantize(
            network(),
            nncf.Dataset([X]),
            advanced_parameters=nncf.AdvancedQuantizationParameters(backend_params={"trace": "structure"}),
        ),
        ValidationError,
        ["trace is 'structure'", "'hooks' and 'export' see activations"],
    ),
    "function that is not bound": (
        lambda _: nncf.torch.disable_tracing(nn.Linear.forward),
        ValidationError,
        ["disable_tracing takes a bound method", "for example model.layer.compute"],
    ),
    "rank": (
        lambda _: nncf.torch.set_active_rank(with_adapters(), 9),
        ValidationError,
        ["active rank of '0.weight' is 9", "from 0 to 4"],
    ),
    "rank of another": (
        lambda _: nncf.torch.set_active_rank(with_adapters(), {"some": 1}),
        ValidationError,
        ["'some' has no adapter", "these have one: 0.weight"],
    ),
    "rank of none": (
        lambda _: nncf.torch.set_active_rank(network(), 1),
        ValidationError,
        ["no adapters", "FQ_LORA_NLS"],
    ),
    "config": (
        lambda _: nncf.torch.load_from_config(network(), {"some": 1}),
        ValidationError,
        ["'compression_state'", "nncf.torch.get_config(model) makes one"],
    ),
    "config of a program": (
        lambda _: nncf.torch.get_config(torch.export.export(network(), (X,))),  # type: ignore[arg-type]
        UnsupportedModelError,
        ["ExportedProgram has no config", "torch.export.save"],
    ),
    "config's kind": (
        lambda _: loaded(lambda entry: entry.update(module_cls_name="Some")),
        ValidationError,
        ["config.compression_state[0]", "unknown kind 'Some'"],
    ),
    "config's parts": (
        lambda _: loaded(lambda entry: entry["module_config"]["parts"].update(more=1)),
        ValidationError,
        ["'0.weight'", "parts that are not known", "'more'"],
    ),
    "config's format": (
        lambda _: loaded(lambda entry: entry["module_config"].update(format="int9")),
        ValidationError,
        ["'0.weight'", "'int9'", "not known"],
    ),
    "copy": (
        lambda _: nncf.compress_weights(uncopied()),
        UnsupportedModelError,
        ["cannot be copied", "_thread.lock", "copy.deepcopy(model)"],
    ),
    "size": (lambda _: created(input_info={"type": "float"}), ValidationError, ["input_info[0]", "'sample_size'"]),
    "type of an input": (
        lambda _: created(input_info={"sample_size": [1, 32], "type": "fp32"}),
        ValidationError,
        ["input_info[0]", "'fp32'", "float32"],
    ),
    "filler of an input": (
        lambda _: created(input_info={"sample_size": [1, 32], "filler": "noise"}),
        ValidationError,
        ["input_info[0]", "'noise'", "random"],
    ),
    "rank of an input": (
        lambda _: created(input_info=[{"sample_size": [1, 32]}] * 2),
        ValidationError,
        ["input_info does not fit", "too many positional", "'keyword'"],
    ),
    "input": (
        lambda _: created(input_info={"sample_size": [1, 31]}),
        UnsupportedModelError,
        ["does not run on its input", "31"],
    ),
    "state": (
        lambda _: other_state(),
        ValidationError,
        ["missing: 0.weight", "not in the model: some.weight", "leave is_resume out"],
    ),
    "state of no model": (
        lambda _: nncf.torch.load_state(network(), 3),  # type: ignore[arg-type]
        ValidationError,
        ["state to load is a int", "model.state_dict()", "torch.load"],
    ),
    "state without tensors": (
        lambda _: nncf.torch.load_state(network(), {"0.weight": 3}),
        ValidationError,
        ["a int for '0.weight'", "model.state_dict()"],
    ),
    "state into no module": (
        lambda _: nncf.torch.load_state(CONFIG, {}),  # type: ignore[arg-type]
        ValidationError,
        ["A dict has no state", "torch.nn.Module"],
    ),
    "state of another controller": (
        lambda _: in_training()[0].load_state({"x": 1}),
        ValidationError,
        ["Controller.load_state: the state has no 'scheduler', 'loss'", "get_state()"],
    ),
    "state of another scheduler": (
        lambda _: in_training()[0].scheduler.load_state({"x": 1}),
        ValidationError,
        ["Scheduler.load_state: the state has no 'current_step', 'current_epoch'", "get_state()"],
    ),
    "state of several algorithms": (
        lambda _: several().load_state(3),
        ValidationError,
        ["CompositeController.load_state: the state has no 'scheduler', 'algorithms'", "get_state()"],
    ),
    "state of a loss": (
        lambda _: several().child_ctrls[1].loss.load_state({}),
        ValidationError,
        ["Loss.load_state: the state has no 'target', 'enabled'"],
    ),
    "loader for a dict": (
        lambda _: nncf.torch.register_default_init_args({}, []),  # type: ignore[arg-type]
        ValidationError,
        ["attached to a dict", "nncf.NNCFConfig.from_dict"],
    ),
    "loader": (
        lambda _: nncf.torch.register_default_init_args(nncf.NNCFConfig.from_dict(CONFIG), 3),
        UnsupportedDatasetError,
        ["The loader is a int", "torch.utils.data.DataLoader"],
    ),
    "negative size": (
        lambda _: created(input_info={"sample_size": [-1, 32]}),
        ValidationError,
        ["input_info[0]", "sample_size is [-1, 32]", "positive integers"],
    ),
    "part of a size": (
        lambda _: created(input_info={"sample_size": [1.5, 32]}),
        ValidationError,
        ["input_info[0]", "sample_size is [1.5, 32]", "positive integers"],
    ),
    "dummy_forward_fn": (
        lambda _: nncf.torch.create_compressed_model(network(), CONFIG, dummy_forward_fn=3),  # type: ignore[arg-type]
        ValidationError,
        ["dummy_forward_fn is a int", "a function that calls the model"],
    ),
    "normalization without items": (
        lambda _: nncf.batch_norm_adaptation(normalized(), nncf.Dataset([])),
        UnsupportedDatasetError,
        ["The dataset has no items", "batch normalization"],
    ),
    "normalization with another item": (
        lambda _: nncf.batch_norm_adaptation(normalized(), nncf.Dataset([X, X[:, :31]])),
        UnsupportedDatasetError,
        ["does not run on item 1 of the dataset", "transform_func"],
    ),
    "file format": (
        lambda folder: exported(folder, "model.xml"),
        ParameterNotSupportedError,
        ["not 'xml'", "onnx_<opset>", "openvino.convert_model"],
    ),
    "names of inputs": (
        lambda folder: exported(folder, "model.onnx", input_names=["a", "b", "c"]),
        ValidationError,
        ["input_names has 3 names, ['a', 'b', 'c'], and the model 1"],
    ),
    "names of outputs": (
        lambda folder: exported(folder, "model.onnx", output_names=["a", "b"]),
        ValidationError,
        ["output_names has 2 names, ['a', 'b'], and the model 1"],
    ),
    "save_format": (
        lambda folder: exported(folder, "model.onnx", "tf"),
        ParameterNotSupportedError,
        ["not 'tf'", "onnx, onnx_<opset> and pt2"],
    ),
    "no items": (
        lambda _: nncf.quantize(network(), nncf.Dataset([])),
        UnsupportedDatasetError,
        ["the model must be run", "pass a dataset that has items"],
    ),
    "item": (
        lambda _: nncf.quantize(network(), nncf.Dataset([X, None])),
        UnsupportedDatasetError,
        ["Item 1", "None", "give a tensor or an array"],
    ),
    "first item of another shape": (
        lambda _: nncf.quantize(network(), nncf.Dataset([X[:, :31]])),
        UnsupportedModelError,
        ["does not run on its input", "It is given 'input' float32 [2, 31], of the first item of the dataset"],
    ),
    "item of another shape": (
        lambda _: nncf.quantize(network(), nncf.Dataset([X, X[:, :31]])),
        UnsupportedDatasetError,
        ["Item 1 of the dataset", "the input 'input' takes float32 [?, 32], and is given float32 [2, 31]"],
    ),
    "item of other inputs": (
        lambda _: nncf.quantize(network(), nncf.Dataset([(X, X)])),
        UnsupportedDatasetError,
        ["forward(input)", "a tuple gives positional arguments"],
    ),
    "model": (
        lambda _: nncf.torch.create_compressed_model(3, CONFIG),  # type: ignore[arg-type]
        UnsupportedModelError,
        ["A int is not trained", "torch.nn.Module"],
    ),
    "program": (
        lambda _: nncf.torch.create_compressed_model(torch.export.export(network(), (X,)).module(), CONFIG),
        UnsupportedModelError,
        ["not trained", "torch.nn.Module"],
    ),
    "device": (
        lambda _: nncf.quantize(network(), nncf.Dataset([X]), target_device=nncf.TargetDevice.CPU_SPR.value + "X"),
        NNCFError,
        ["target_device", "CPU_SPR"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_where_and_what_to_do(name: str, tmp_path: Path) -> None:
    act, kind, parts = CASES[name]
    with pytest.raises(kind) as caught:
        act(tmp_path)
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message
    assert message.endswith("."), message
    assert not re.search(r"[^.]\.\.$", message), message
    assert list(tmp_path.iterdir()) == []


def test_one_name_may_be_a_string(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    exported(tmp_path, "model.onnx", input_names="pixels", output_names="logits")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert ([each.name for each in graph.input], [each.name for each in graph.output]) == (["pixels"], ["logits"])


def test_normalization_that_a_model_lacks(caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    assert nncf.batch_norm_adaptation(model, nncf.Dataset([X])) is model
    assert "The model has no batch normalization: nothing was adapted." in caplog.text


def test_normalization_of_what_is_not_trained() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) {y = Relu(x)}'
    )
    with pytest.raises(UnsupportedBackendError, match=r"ONNX models are not trained; give the PyTorch model"):
        nncf.batch_norm_adaptation(model, nncf.Dataset([X]))
