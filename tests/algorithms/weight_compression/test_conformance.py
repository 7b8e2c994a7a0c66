"""The algorithms that are shipped do all that the kit expects of an algorithm."""

import nncf_weight_compression.plugin
from nncf_core.testing import AlgorithmConformance


class TestWeightCompression(AlgorithmConformance):
    algorithm = "weight_compression"
    plugin = nncf_weight_compression.plugin

    def sections(self):
        adjust = {"group_size_fallback_mode": "adjust"}
        return [
            {},
            {"mode": "int8_sym"},
            {"mode": "int4_sym", "group_size": 16, "all_layers": True},
            {"mode": "int4_asym", "ratio": 0.5, "group_size": 16, "backup_mode": "none"},
            {"mode": "int4_sym", "ratio": 0.5, "group_size": 16, "sensitivity_metric": "hessian_input_activation"},
            {"mode": "int4_sym", "ratio": 0.4, "group_size": -1, "sensitivity_metric": "weight_quantization_error"},
            {"mode": "adaptive_codebook", "ratio": 0.8, "all_layers": True},
            {"mode": "nf4", "group_size": 64, "advanced_parameters": adjust},
            {"mode": "mxfp4", "advanced_parameters": {"group_size_fallback_mode": "ignore"}},
        ]
