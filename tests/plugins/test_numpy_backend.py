"""The kit's own backend does all that the kit expects of a backend."""

from nncf_core.testing import BackendConformance
from nncf_core.testing.numpy_backend import plugin, samples


class TestNumpyBackend(BackendConformance):
    framework = "numpy"
    plugin = plugin
    tolerance = 0.0

    def cases(self):
        return samples.all_samples()
