"""Weights of an ONNX model in 4 bits, with advanced parameters and a backup mode."""

import numpy as np
import onnx
import onnxruntime as ort

import nncf
from nncf.quantization.advanced_parameters import (
    AdvancedAWQParameters,
    AdvancedCompressionParameters,
    AdvancedScaleEstimationParameters,
)

tokens = np.load("tokens.npz")["tokens"]
model = onnx.load("transformer.onnx")
compressed_model = nncf.compress_weights(
    model,
    mode=nncf.CompressWeightsMode.INT4_SYM,
    group_size=32,
    ratio=1.0,
    all_layers=True,
    backup_mode=nncf.BackupMode.INT8_SYM,
    dataset=nncf.Dataset([{"tokens": tokens[i : i + 1]} for i in range(32)]),
    awq=True,
    scale_estimation=True,
    advanced_parameters=AdvancedCompressionParameters(
        awq_params=AdvancedAWQParameters(32, 0.01, 0.0, 1.0, 20),
        scale_estimation_params=AdvancedScaleEstimationParameters(subset_size=16, initial_steps=3, scale_steps=3),
    ),
)
onnx.save(compressed_model, "transformer_int4.onnx")
compressed_int8 = nncf.compress_weights(model)
onnx.save(compressed_int8, "transformer_int8.onnx")


def scores(path):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"tokens": tokens[200:]})[0]


agreement = [
    float((scores(path).argmax(1) == scores("transformer.onnx").argmax(1)).mean())
    for path in ("transformer_int8.onnx", "transformer_int4.onnx")
]
