"""4-bit weights of an OpenVINO model: mixed precision by position, an ignored scope, AWQ and scale estimation."""

import numpy as np
import openvino as ov

import nncf
from nncf import CompressWeightsMode, SensitivityMetric
from nncf.quantization.advanced_parameters import (
    AdvancedAWQParameters,
    AdvancedCompressionParameters,
    AdvancedScaleEstimationParameters,
)

tokens = np.load("tokens.npz")["tokens"]
core = ov.Core()
wanted = core.compile_model(core.read_model("transformer.xml"), "CPU")(tokens[200:])[0]


def compressed(**arguments):
    model = core.read_model("transformer.xml")
    model = nncf.compress_weights(
        model,
        CompressWeightsMode.INT4_ASYM,
        0.8,
        64,
        nncf.IgnoredScope(patterns=[".*classifier.*"], validate=False),
        False,
        nncf.Dataset([tokens[i : i + 1] for i in range(48)], lambda item: {0: item}),
        SensitivityMetric.MEAN_ACTIVATION_MAGNITUDE,
        subset_size=48,
        **arguments,
    )
    ov.save_model(model, "transformer_int4.xml", compress_to_fp16=False)
    found = core.compile_model("transformer_int4.xml", "CPU")(tokens[200:])[0]
    kinds = [node.get_element_type().get_type_name() for node in model.get_ops() if node.get_type_name() == "Constant"]
    return kinds, float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


kinds, error = compressed()
advanced = AdvancedCompressionParameters(
    awq_params=AdvancedAWQParameters(32, 0.01, 0.0, 1.0, 20),
    scale_estimation_params=AdvancedScaleEstimationParameters(subset_size=32, initial_steps=3, scale_steps=3),
)
kinds_awq, error_awq = compressed(awq=True, scale_estimation=True, advanced_parameters=advanced)
