"""The conformance kit, on the numpy backend."""

from __future__ import annotations

import nncf_post_training_quantization.plugin
from nncf_core.testing import AlgorithmConformance


class TestPostTrainingQuantization(AlgorithmConformance):
    algorithm = "post_training_quantization"
    plugin = nncf_post_training_quantization.plugin

    def sections(self):
        return [
            {},
            {"preset": "performance", "fast_bias_correction": False},
            {
                "advanced_parameters": {
                    "activations_range_estimator_params": {
                        side: {"statistics_type": "raw", "aggregator_type": "histogram"} for side in ("min", "max")
                    },
                    "weights_quantization_params": {"mode": "asymmetric"},
                    "batchwise_statistics": True,
                }
            },
            {"mode": "fp8_e4m3"},
            {"advanced_parameters": {"disable_bias_correction": True, "quantize_outputs": True}},
        ]


class TestChannelAlignment(AlgorithmConformance):
    algorithm = "channel_alignment"
    plugin = nncf_post_training_quantization.plugin
