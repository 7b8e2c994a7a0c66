"""Scripts as users of NNCF 2.17 wrote them run unchanged."""

import logging
import runpy
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import nncf

SCRIPTS = Path(__file__).parent / "scripts_of_2_17"
_OPENVINO = ("nncf_openvino", "openvino", "nncf_onnx", "nncf_torch", "onnxscript", "torch", "sklearn")
_PTQ = "nncf_post_training_quantization"


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder with a classifier in files of two frameworks, the demo's transformer, and data of both."""
    import onnx
    import openvino

    from tests.backends.digits import converted, convolutions, images

    folder = tmp_path_factory.mktemp("digits")
    x, y, x_test, y_test = images()
    data = np.concatenate([x.numpy(), x_test.numpy()])
    np.savez(folder / "digits.npz", images=data, labels=np.concatenate([y.numpy(), y_test.numpy()]))
    onnx.save(converted(convolutions(), x[:1], "onnx"), folder / "digits.onnx")
    model = converted(convolutions(), x[:1], "openvino")
    model.reshape([-1, 1, 8, 8])
    openvino.save_model(model, folder / "digits.xml", compress_to_fp16=False)
    shutil.copy(SCRIPTS.parents[2] / "models/digits_transformer.onnx", folder / "transformer.onnx")
    model = openvino.convert_model(folder / "transformer.onnx")
    openvino.save_model(model, folder / "transformer.xml", compress_to_fp16=False)
    np.savez(folder / "tokens.npz", tokens=np.rint(data[1300:, 0] * 16).reshape(-1, 64).astype(np.int64))
    return folder


@pytest.fixture
def run(digits, tmp_path, monkeypatch):
    """Runs a script in a folder of its own; gives its variables."""
    for path in digits.iterdir():
        shutil.copy(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    level = nncf.nncf_logger.level

    def made(name):
        with warnings.catch_warnings():
            # of the exporters and converters of the frameworks
            warnings.filterwarnings("ignore", module=r"(torch|openvino|onnxscript)\b")
            return runpy.run_path(str(SCRIPTS / f"{name}.py"))

    yield made
    nncf.set_log_level(level or logging.NOTSET)


@pytest.mark.needs(*_OPENVINO, _PTQ)
def test_a_classifier_of_openvino_is_quantized(run):
    found = run("classify_openvino")
    assert found["fp32_top1"] > 0.95
    assert found["int8_top1"] > found["fp32_top1"] - 0.01
    assert Path("digits_int8.bin").stat().st_size < 0.4 * Path("digits.bin").stat().st_size


@pytest.mark.needs(*_OPENVINO, _PTQ)
def test_a_classifier_of_onnx_is_quantized(run):
    found = run("classify_onnx")
    assert found["int8_top1"] > found["fp32_top1"] - 0.01 > 0.94
    nodes = found["quantized_model"].graph.node
    produced = {output: node.op_type for node in nodes for output in node.output}
    quantized = {node.name for node in nodes if node.op_type == "Conv" and node.input[1] in produced}
    assert len(quantized) >= 3
    assert found["first"].node_name not in quantized
    assert nncf.nncf_logger.level == logging.ERROR


@pytest.mark.needs(*_OPENVINO, _PTQ)
def test_a_classifier_of_pytorch_is_quantized(run):
    found = run("classify_torch")
    assert found["same"]
    assert found["fp32_top1"] > 0.9
    for name in ("int8_top1", "int8_openvino_top1"):
        assert found[name] > found["fp32_top1"] - 0.015
    kinds = [node.get_type_name() for node in found["ov_model"].get_ops()]
    assert kinds.count("FakeQuantize") >= 2


@pytest.mark.needs(*_OPENVINO, "nncf_weight_compression", "nncf_weight_refinement", "nncf_awq")
def test_weights_of_an_openvino_model_are_compressed(run):
    found = run("compress_weights_openvino")
    assert found["kinds"].count("u4") == found["kinds_awq"].count("u4") >= 10
    assert found["error_awq"] < 0.9 * found["error"] < 0.2


@pytest.mark.needs(*_OPENVINO, "nncf_weight_compression")
def test_weights_of_an_onnx_model_are_compressed(run):
    int8, int4 = run("compress_weights_onnx")["agreement"]
    assert int8 >= 0.98
    assert int4 >= 0.94
    sizes = [Path(f"transformer{name}.onnx").stat().st_size for name in ("", "_int8", "_int4")]
    assert sizes[1] < 0.35 * sizes[0]
    assert sizes[2] < 0.25 * sizes[0]


@pytest.mark.needs(*_OPENVINO, _PTQ, "nncf_accuracy_control")
def test_a_limit_of_accuracy_holds(run):
    found = run("accuracy_control_openvino")
    assert found["after"] >= found["before"] - 0.01
    assert found["calls"][:2] == [200, 200]
    assert [node.get_type_name() for node in found["quantized_model"].get_ops()].count("FakeQuantize") > 3


@pytest.mark.needs(*_OPENVINO, _PTQ, "nncf_quantization_aware_training", "nncf_magnitude_sparsity")
def test_a_training_script_runs(run):
    found = run("train_quantized_torch")
    assert found["int4_top1"] > found["fp32_top1"] - 0.02 > 0.9
    assert found["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert found["resumed_top1"] == found["int4_top1"]
    import onnxruntime

    session = onnxruntime.InferenceSession("digits_int4.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    items = zip(found["images"][1300:1400].numpy(), found["labels"][1300:1400].numpy(), strict=True)
    hits = [session.run(None, {name: image[None]})[0].argmax() == label for image, label in items]
    assert np.mean(hits) > 0.9


@pytest.mark.needs(*_OPENVINO, "nncf_magnitude_sparsity")
def test_a_training_within_a_limit_of_accuracy_runs(run):
    found = run("train_within_accuracy_torch")
    assert found["is_known"]
    assert found["before"] - found["after"] <= 2
    assert found["rate"] > 0.3
    weights = [module.weight for module in found["compressed"].modules() if hasattr(module, "weight")]
    assert sum(int((weight == 0).sum()) for weight in weights) > 0.3 * sum(weight.numel() for weight in weights) - 2


@pytest.mark.needs(*_OPENVINO, _PTQ)
def test_exported_programs_are_quantized(run):
    found = run("quantize_exported_torch")
    for name in ("int8_top1", "pt2e_top1"):
        assert found[name] > found["fp32_top1"] - 0.015 > 0.9
    everything, without_linear = found["quantizers"]
    assert 0 < without_linear < everything


@pytest.mark.needs("nncf_torch", "torch", _PTQ)
def test_quantizers_of_other_kinds_are_refused_by_name():
    import torch

    from nncf.experimental.torch.fx import OpenVINOQuantizer, quantize_pt2e

    data = nncf.Dataset([torch.zeros(1, 4)])
    module = torch.export.export(torch.nn.Linear(4, 4), (torch.zeros(1, 4),)).module()
    with pytest.raises(nncf.ParameterNotSupportedError, match="OpenVINOQuantizer"):
        quantize_pt2e(module, object(), data)
    with pytest.raises(nncf.UnsupportedModelError, match=r"torch\.export"):
        quantize_pt2e(torch.nn.Linear(4, 4), OpenVINOQuantizer(), data)
