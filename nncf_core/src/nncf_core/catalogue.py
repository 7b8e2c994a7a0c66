"""What this project ships, so that an error can name the package that would help. Plain data."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from attrs import frozen


@frozen
class FrameworkInfo:
    """A framework that has a backend, installed or not.

    :param title: name as people write it.
    :param distribution: package that brings the backend.
    :param modules: top-level modules that model classes of the framework live in.
    :param suffixes: suffixes of its model files.
    """

    title: str
    distribution: str
    modules: tuple[str, ...]
    suffixes: tuple[str, ...]


FRAMEWORKS: Mapping[str, FrameworkInfo] = {
    "onnx": FrameworkInfo("ONNX", "nncf-onnx", ("onnx", "onnx_ir"), (".onnx",)),
    "openvino": FrameworkInfo("OpenVINO", "nncf-openvino", ("openvino",), (".xml",)),
    "torch": FrameworkInfo("PyTorch", "nncf-torch", ("torch",), (".pt2", ".pt", ".pth")),
}
"""Frameworks by backend name."""

_EXPORT = (
    "Such files hold weights or Python objects without the operators: load the model in Python, and export it with "
    "torch.export.save(torch.export.export(model.eval(), (example_input,)), 'model.pt2')."
)

REMEDIES: Mapping[str, str] = {".pt": _EXPORT, ".pth": _EXPORT}
"""What to do with model files that no backend reads, by their suffixes."""

ALGORITHMS: Mapping[str, str] = {
    "activation_sparsity": "nncf-activation-sparsity",
    "accuracy_control": "nncf-accuracy-control",
    "awq": "nncf-awq",
    "const_sparsity": "nncf-const-sparsity",
    "error_propagation": "nncf-weight-refinement",
    "experimental_quantization": "nncf-quantization-aware-training",
    "filter_pruning": "nncf-filter-pruning",
    "gptq": "nncf-weight-refinement",
    "knowledge_distillation": "nncf-knowledge-distillation",
    "lora_correction": "nncf-weight-refinement",
    "magnitude_sparsity": "nncf-magnitude-sparsity",
    "movement_sparsity": "nncf-movement-sparsity",
    "post_training_quantization": "nncf-post-training-quantization",
    "quantization": "nncf-quantization-aware-training",
    "rb_sparsity": "nncf-rb-sparsity",
    "refinement": "nncf-weight-refinement",
    "scale_estimation": "nncf-weight-refinement",
    "scale_search": "nncf-weight-refinement",
    "smooth_quant": "nncf-smooth-quant",
    "weight_compression": "nncf-weight-compression",
}
"""Distribution that provides an algorithm, by its name."""


def is_importable(framework: str) -> bool:
    """Whether the package of a framework is installed; ``True`` for frameworks that are not known here."""
    info = FRAMEWORKS.get(framework)
    return info is None or importlib.util.find_spec(info.modules[0]) is not None


def framework_of(model: object) -> str | None:
    """Backend name for a model, by the module of its class or of a base class; imports nothing."""
    modules = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    return next((name for name, info in FRAMEWORKS.items() if modules & set(info.modules)), None)


def framework_of_suffix(suffix: str) -> str | None:
    """Backend name for a file suffix."""
    return next((name for name, info in FRAMEWORKS.items() if suffix in info.suffixes), None)
