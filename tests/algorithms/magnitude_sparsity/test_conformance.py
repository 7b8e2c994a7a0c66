"""The conformance kit, on the numpy backend."""

from __future__ import annotations

import nncf_magnitude_sparsity.plugin
from nncf_core.testing import AlgorithmConformance


class TestMagnitudeSparsity(AlgorithmConformance):
    algorithm = "magnitude_sparsity"
    plugin = nncf_magnitude_sparsity.plugin

    def sections(self):
        local = {"weight_importance": "abs", "sparsity_level_setting_mode": "local", "sparsity_target": 0.3}
        return [{}, {"params": local}]
