"""The conformance kit, on the numpy backend."""

from __future__ import annotations

import nncf_smooth_quant.plugin
from nncf_core.testing import AlgorithmConformance


class TestSmoothQuant(AlgorithmConformance):
    algorithm = "smooth_quant"
    plugin = nncf_smooth_quant.plugin

    def sections(self):
        return [{}, {"alpha_matmul": 0.5, "alpha_convolution": 0.75}, {"alpha_matmul": -1}]
