"""Post-training quantization of an ONNX classifier, with an ignored scope, range estimators and a logger."""

import logging

import numpy as np
import onnx
import onnxruntime as ort

import nncf
from nncf.common.factory import NNCFGraphFactory
from nncf.common.logging.logger import set_log_level
from nncf.common.logging.track_progress import track
from nncf.common.quantization.structs import QuantizationPreset
from nncf.parameters import TargetDevice
from nncf.quantization.advanced_parameters import (
    AdvancedBiasCorrectionParameters,
    AdvancedQuantizationParameters,
    OverflowFix,
    QuantizationParameters,
)
from nncf.quantization.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from nncf.scopes import IgnoredScope

set_log_level(logging.ERROR)
data = np.load("digits.npz")
model = onnx.load("digits.onnx")
input_name = model.graph.input[0].name
graph = NNCFGraphFactory.create(model)
first = graph.get_nodes_by_types(["Conv"])[0]

calibration_dataset = nncf.Dataset(range(160), lambda index: {input_name: data["images"][index : index + 1]})
quantized_model = nncf.quantize(
    model,
    calibration_dataset,
    preset=QuantizationPreset.PERFORMANCE,
    target_device=TargetDevice.CPU,
    subset_size=160,
    ignored_scope=IgnoredScope(names=[first.node_name], patterns=[".*no_such.*"], validate=False),
    advanced_parameters=AdvancedQuantizationParameters(
        overflow_fix=OverflowFix.DISABLE,
        weights_quantization_params=QuantizationParameters(num_bits=8, per_channel=True),
        activations_range_estimator_params=RangeEstimatorParameters(
            min=StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=1e-3),
            max=StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=1e-3),
        ),
        weights_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        bias_correction_params=AdvancedBiasCorrectionParameters(threshold=2),
    ),
)
onnx.save(quantized_model, "digits_int8.onnx")


def validate(path):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    hits = [
        session.run(None, {input_name: data["images"][i : i + 1]})[0].argmax() == data["labels"][i]
        for i in track(range(1300, 1700), description="Validation")
    ]
    return float(np.mean(hits))


fp32_top1, int8_top1 = validate("digits.onnx"), validate("digits_int8.onnx")
