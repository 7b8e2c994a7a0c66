"""Tests of distributions that are not installed are left out, so that the suite runs with any selection of them."""

from importlib.util import find_spec

import pytest

_NEEDED = {
    "nncf_onnx": [
        "backends/onnx/*",
        "cli/*",
        "algorithms/weight_compression/test_on_onnx.py",
        "plugins/test_installations.py",
    ],
    "nncf_torch": ["backends/torch/*", "plugins/test_torch_installation.py"],
    "nncf_weight_compression": [
        "algorithms/weight_compression/*",
        "backends/torch/test_[fpst]*.py",
        "backends/torch/test_compilers.py",
        "cli/*",
        "plugins/test_installations.py",
        "plugins/test_torch_installation.py",
    ],
}

collect_ignore_glob = sorted(
    {path for package, paths in _NEEDED.items() if find_spec(package) is None for path in paths}
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.needs("package", ...)``: skip a test where a package is not installed."""
    for marker in item.iter_markers("needs"):
        missing = [package for package in marker.args if find_spec(package) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")
