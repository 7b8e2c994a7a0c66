"""Tests of distributions that are not installed are left out, so that the suite runs with any selection of them."""

import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, settings

from nncf_core.hardware import LeastSize

# the same examples in each run, however slow the machine
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

_ALGORITHM = "nncf_weight_compression"
_DIGITS = ("nncf_torch", "nncf_onnx", "nncf_openvino", "onnx", "onnxscript", "openvino", "sklearn", "torch")
_NEEDS = {
    "algorithms/weight_compression/*": (_ALGORITHM,),
    "algorithms/weight_compression/test_on_onnx.py": ("nncf_onnx",),
    "algorithms/post_training_quantization/*": ("nncf_post_training_quantization",),
    "algorithms/post_training_quantization/test_on_onnx.py": ("nncf_onnx",),
    "algorithms/post_training_quantization/test_on_torch.py": ("nncf_torch", "openvino", "onnx", "sklearn", "torch"),
    "algorithms/post_training_quantization/test_on_openvino.py": ("nncf_openvino", "openvino", "onnx"),
    "algorithms/accuracy_control/*": (
        "nncf_accuracy_control", "nncf_post_training_quantization", "nncf_onnx", "nncf_openvino", "nncf_torch", "onnx",
        "onnxscript", "openvino", "sklearn", "torch",
    ),
    "algorithms/filter_pruning/*": (
        "nncf_filter_pruning", "nncf_onnx", "nncf_openvino", "nncf_torch", "onnx", "openvino", "sklearn", "torch",
    ),
    "algorithms/smooth_quant/*": ("nncf_smooth_quant", "nncf_post_training_quantization"),
    "algorithms/weight_refinement/*": ("nncf_weight_refinement", _ALGORITHM),
    "algorithms/weight_refinement/test_on_onnx.py": ("nncf_onnx",),
    "algorithms/weight_refinement/test_on_frameworks.py": (
        "nncf_onnx", "nncf_openvino", "nncf_torch", "onnx", "onnxscript", "openvino", "torch",
    ),
    "algorithms/smooth_quant/test_on_onnx.py": ("nncf_onnx",),
    "algorithms/magnitude_sparsity/*": ("nncf_magnitude_sparsity",),
    "algorithms/magnitude_sparsity/test_on_digits.py": ("nncf_knowledge_distillation", *_DIGITS),
    "algorithms/rb_sparsity/*": ("nncf_rb_sparsity", "nncf_magnitude_sparsity", *_DIGITS),
    "algorithms/const_sparsity/*": ("nncf_const_sparsity",),
    "algorithms/const_sparsity/test_on_digits.py": (
        "nncf_magnitude_sparsity", "nncf_post_training_quantization", *_DIGITS,
    ),
    "algorithms/movement_sparsity/*": ("nncf_movement_sparsity", *_DIGITS),
    "algorithms/knowledge_distillation/*": ("nncf_knowledge_distillation", "nncf_magnitude_sparsity", *_DIGITS),
    "algorithms/activation_sparsity/*": ("nncf_activation_sparsity", _ALGORITHM, *_DIGITS),
    "backends/onnx/*": ("nncf_onnx",),
    "backends/openvino/*": ("nncf_openvino", "openvino"),
    "backends/test_parity.py": (
        _ALGORITHM, "nncf_onnx", "nncf_openvino", "nncf_torch", "onnx", "onnxscript", "openvino", "torch",
    ),
    "backends/test_refinement.py": (
        _ALGORITHM, "nncf_onnx", "nncf_openvino", "nncf_torch", "onnx", "onnxscript", "openvino", "torch",
    ),
    "backends/test_quantization_parity.py": (
        "nncf_post_training_quantization", "nncf_onnx", "nncf_openvino", "nncf_torch", "onnx", "onnxscript", "openvino",
        "sklearn", "torch",
    ),
    "backends/torch/*": ("nncf_torch", "torch"),
    "backends/torch/test_[fpst]*.py": (_ALGORITHM,),
    "backends/torch/test_compilers.py": (_ALGORITHM,),
    "backends/torch/test_devices.py": (_ALGORITHM,),
    "core/numerics/test_arrays.py": ("torch",),
    "cli/*": ("nncf_onnx", _ALGORITHM),
    "cli/test_quantize.py": ("nncf_accuracy_control", "nncf_post_training_quantization", "onnxruntime"),
    "examples/*": (
        "nncf_accuracy_control", "nncf_awq", "nncf_filter_pruning", "nncf_knowledge_distillation",
        "nncf_post_training_quantization", "nncf_quantization_aware_training", "nncf_weight_refinement", _ALGORITHM,
        *_DIGITS,
    ),
    "plugins/test_installations.py": ("nncf_onnx", _ALGORITHM),
    "plugins/test_torch_installation.py": ("nncf_torch", _ALGORITHM),
}  # fmt: skip

collect_ignore_glob = [path for path, packages in _NEEDS.items() if not all(map(find_spec, packages))]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What installs distributions comes first: these few tests take long, and other processes have work meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("fresh_env") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.needs("package", ...)``: skip a test where a package is not installed."""
    for marker in item.iter_markers("needs"):
        missing = [package for package in marker.args if find_spec(package) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="session", autouse=True)
def small_layers() -> Iterator[Mapping[str, Any]]:
    """Layers of tests' networks are smaller than those that onnxruntime computes faster with integers.

    So all but the smallest convolutions are taken for large enough. Gives the setups as they are; a test of sizes asks
    for :func:`measured_sizes`.
    """
    try:
        from nncf_onnx import quantization_setup
    except ImportError:
        yield {}
        return
    devices = quantization_setup._DEVICES
    as_they_are = dict(devices)
    sizes = {"Conv": LeastSize(channels=8, outputs=16, products_per_element=12)}
    for name in ("ANY", "CPU", "CPU_SPR"):
        operators = {
            kind: evolve(operator, least=sizes.get(kind, LeastSize()))
            for kind, operator in devices[name].operators.items()
        }
        devices[name] = evolve(devices[name], operators=operators)
    yield as_they_are
    devices.update(as_they_are)


@pytest.fixture
def measured_sizes(small_layers: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers have to be as large as they are in earnest."""
    for name, setup in small_layers.items():
        monkeypatch.setitem(sys.modules["nncf_onnx.quantization_setup"]._DEVICES, name, setup)
