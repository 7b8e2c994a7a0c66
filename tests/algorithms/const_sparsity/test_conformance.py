"""The conformance kit, on the numpy backend."""

from __future__ import annotations

import nncf_const_sparsity.plugin
from nncf_core.testing import AlgorithmConformance


class TestConstSparsity(AlgorithmConformance):
    algorithm = "const_sparsity"
    plugin = nncf_const_sparsity.plugin
