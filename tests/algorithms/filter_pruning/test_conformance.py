"""The conformance kit, on the numpy backend."""

from __future__ import annotations

import nncf_filter_pruning.plugin
from nncf_core.testing import AlgorithmConformance


class TestFilterPruning(AlgorithmConformance):
    algorithm = "filter_pruning"
    plugin = nncf_filter_pruning.plugin

    def sections(self):
        return [{}, {"params": {"pruning_target": 0.3, "all_weights": True}}, {"params": {"filter_importance": "L1"}}]
