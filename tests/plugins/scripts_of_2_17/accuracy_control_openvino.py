"""Quantization within a limit of accuracy, by a validation function that tells the value of each item."""

import numpy as np
import openvino as ov

import nncf
from nncf.quantization.advanced_parameters import AdvancedAccuracyRestorerParameters, AdvancedQuantizationParameters

data = np.load("digits.npz")
model = ov.Core().read_model("digits.xml")
calls = []


def transform_fn(data_item):
    return data_item[0]


def validate(compiled_model, validation_data):
    output = compiled_model.outputs[0]
    hits = [float(compiled_model(images)[output].argmax() == label) for images, label in validation_data]
    calls.append(len(hits))
    return float(np.mean(hits)), hits


items = [(data["images"][i : i + 1], data["labels"][i]) for i in range(1500)]
quantized_model = nncf.quantize_with_accuracy_control(
    model,
    nncf.Dataset(items[:200], transform_fn),
    nncf.Dataset(items[1300:], transform_fn),
    validate,
    0.01,
    nncf.DropType.ABSOLUTE,
    nncf.QuantizationPreset.PERFORMANCE,
    nncf.TargetDevice.ANY,
    200,
    advanced_quantization_parameters=AdvancedQuantizationParameters(overflow_fix="disable"),
    advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(5, ranking_subset_size=50),
)
ov.save_model(quantized_model, "controlled.xml")
before, _ = validate(ov.compile_model("digits.xml", "CPU"), items[1300:])
after, per_item = validate(ov.compile_model("controlled.xml", "CPU"), items[1300:])
