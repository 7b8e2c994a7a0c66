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
            {"advanced_parameters": {"disable_bias_correction": True, "quantize_outputs": True}},
        ]


class TestChannelAlignment(AlgorithmConformance):
    algorithm = "channel_alignment"
    plugin = nncf_post_training_quantization.plugin
