"""Weights of an ONNX model in 8 bits by default, and in 4 bits with a ratio and a backup mode."""

import numpy as np
import onnx
import onnxruntime as ort

import nncf

tokens = np.load("tokens.npz")["tokens"]
model = onnx.load("transformer.onnx")
compressed_int8 = nncf.compress_weights(model)
onnx.save(compressed_int8, "transformer_int8.onnx")
compressed_int4 = nncf.compress_weights(
    onnx.load("transformer.onnx"),
    mode=nncf.CompressWeightsMode.INT4_SYM,
    ratio=0.9,
    group_size=32,
    all_layers=False,
    sensitivity_metric=nncf.SensitivityMetric.WEIGHT_QUANTIZATION_ERROR,
    backup_mode=nncf.BackupMode.INT8_SYM,
)
onnx.save(compressed_int4, "transformer_int4.onnx")


def scores(path):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"tokens": tokens[200:]})[0]


agreement = [
    float((scores(path).argmax(1) == scores("transformer.onnx").argmax(1)).mean())
    for path in ("transformer_int8.onnx", "transformer_int4.onnx")
]
