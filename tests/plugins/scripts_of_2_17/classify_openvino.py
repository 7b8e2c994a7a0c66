"""Post-training quantization of an OpenVINO classifier, arguments by position."""

import numpy as np
import openvino as ov

import nncf
from nncf.openvino.quantization.backend_parameters import BackendParameters
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters

data = np.load("digits.npz")
core = ov.Core()
model = core.read_model("digits.xml")


def transform_fn(data_item):
    images, _ = data_item
    return images


calibration_loader = [(data["images"][i : i + 1], data["labels"][i : i + 1]) for i in range(200)]
calibration_dataset = nncf.Dataset(calibration_loader, transform_fn)
quantized_model = nncf.quantize(
    model,
    calibration_dataset,
    None,
    nncf.QuantizationPreset.MIXED,
    nncf.TargetDevice.CPU,
    100,
    True,
    None,
    nncf.IgnoredScope(types=["Softmax"], validate=False),
    AdvancedQuantizationParameters(backend_params={BackendParameters.STAT_REQUESTS_NUMBER: 2}),
)
ov.save_model(quantized_model, "digits_int8.xml")


def validate(path):
    compiled = core.compile_model(path, "CPU")
    scores = compiled(data["images"][1300:])[compiled.output(0)]
    return float((scores.argmax(1) == data["labels"][1300:]).mean())


fp32_top1 = validate("digits.xml")
int8_top1 = validate("digits_int8.xml")
print(f"Accuracy drop: {fp32_top1 - int8_top1:.4f}")
