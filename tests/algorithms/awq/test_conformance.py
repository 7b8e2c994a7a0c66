"""The conformance kit, on the numpy backend."""

from __future__ import annotations

import nncf_awq.plugin
from nncf_core.testing import AlgorithmConformance


class TestAwq(AlgorithmConformance):
    algorithm = "awq"
    plugin = nncf_awq.plugin

    def sections(self):
        return [
            {"mode": "int4_asym", "group_size": -1},
            {"mode": "int4_sym", "group_size": 4, "all_layers": True},
            {"mode": "nf4", "group_size": -1, "prefer_data_aware_scaling": False},
        ]
