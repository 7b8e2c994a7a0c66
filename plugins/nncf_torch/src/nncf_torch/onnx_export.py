"""ONNX models of modules with compressed weights, which keep the bits that the weights are stored in.

PyTorch has no 4-bit integers, so that what ``torch.onnx.export`` makes of a compressed module takes bytes apart, and
its optimizer computes that beforehand for small weights. Here PyTorch writes the network with float weights under their
names, and the installed ONNX backend stores these by a plan of the very codes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nncf_core.errors import UnsupportedModelError
from nncf_core.log import nncf_logger
from nncf_core.pipeline import apply_plan
from nncf_core.plan import Plan
from nncf_core.transformations import CompressConstant
from nncf_torch.compressed_modules import put_float, weights_of
from nncf_torch.places import Place, places
from nncf_torch.sharing import shared_copy
from nncf_torch.stored import decode
from nncf_torch.trained_weights import trainings_of

OPSET = 21
"""The first one with 4-bit integers, and with DequantizeLinear of groups."""


def export_onnx(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    weight_format: str = "auto",
    **options: Any,
) -> torch.onnx.ONNXProgram:
    """``torch.onnx.export`` for modules with compressed weights: these keep their codes, scales and zero points.

    ``export_onnx(model, args).save("model.onnx")`` writes a file. It needs the packages nncf-onnx and onnxscript. While
    it works the weights are in memory as floats, too.

    :param model: what ``nncf.compress_weights`` gave, or ``nncf.strip`` with ``StripFormat.DQ``.
    :param args: inputs to export with.
    :param kwargs: inputs by name.
    :param weight_format: of ``backend_params`` of the ONNX backend: ``auto``, ``dequantize_linear``, or
        ``matmul_nbits``, with which onnxruntime multiplies by 4-bit weights and activations rounded to 8 bits.
    :param options: of ``torch.onnx.export``, for instance ``dynamic_shapes`` and ``opset_version`` (default 21).
    :raises UnsupportedModelError: for models that are no modules, and for weights that are still trained.
    :raises UnsupportedBackendError: when nncf-onnx is not installed.
    """
    _check(model)
    plain = shared_copy(model)
    compressed = [place for place in places(plain).values() if place.stored is not None]
    names = _names(plain, compressed)
    tensors = [decode(place.stored, place.parts) for place in compressed if place.stored is not None]
    for place in compressed:
        value = getattr(*place.owners[0]).detach()
        for owner, attribute in place.owners:
            put_float(owner, attribute, value, parameter=True)
    optimized = bool(options.pop("optimize", True))
    settings = {"opset_version": OPSET, "verbose": False, **options, "dynamo": True, "optimize": False}
    program = torch.onnx.export(plain, args, kwargs=None if kwargs is None else dict(kwargs), **settings)
    assert program is not None
    found = [_only(program, given) for given in names]
    missing = [given[0] for given, name in zip(names, found, strict=True) if name is None]
    if missing:
        nncf_logger.warning("Not in the ONNX model under their names, and not compressed: %s.", ", ".join(missing))
    if optimized:
        with _kept(program, [name for name in found if name is not None]):
            program.optimize()
    edits = tuple(CompressConstant(name, each) for name, each in zip(found, tensors, strict=True) if name is not None)
    plan = Plan("onnx", (), (("export", edits),))
    # operators that round activations are for those who ask for them
    written = {"weight_format": weight_format, **({"accuracy_level": 0} if weight_format == "auto" else {})}
    program.model = apply_plan(plan, program.model, written)
    return program


def _check(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"A {type(model).__name__} is no torch.nn.Module, of which export_onnx makes ONNX.")
    for path, module in model.named_modules():
        for name in trainings_of(module):
            raise UnsupportedModelError(
                f"The weight {f'{path}.{name}'.lstrip('.')!r} is still trained: give export_onnx what "
                "nncf.strip(model, strip_format=nncf.StripFormat.DQ) returns."
            )


def _names(root: nn.Module, compressed: Sequence[Place]) -> list[list[str]]:
    """All names of each weight; ONNX has one of them."""
    paths: dict[int, list[str]] = {}
    for path, module in root.named_modules(remove_duplicate=False):
        if weights_of(module):
            paths.setdefault(id(module), []).append(path)
    return [
        [f"{path}.{name}".lstrip(".") for owner, name in place.owners for path in paths[id(owner)]]
        for place in compressed
    ]


def _only(program: torch.onnx.ONNXProgram, names: Sequence[str]) -> str | None:
    """The name of the initializer of a weight, which all that take the weight are made to take."""
    known = program.model.graph.initializers
    found = [name for name in names if name in known]
    for other in found[1:]:
        for use in tuple(known[other].uses()):
            use.node.replace_input_with(use.idx, known[found[0]])
        del known[other]
    return found[0] if found else None


@contextmanager
def _kept(program: torch.onnx.ONNXProgram, names: Sequence[str]) -> Iterator[None]:
    """Let initializers of a program stay as they are, and under their names, while it is optimized.

    Those that are inputs, too, are not constants for an optimizer.
    """
    graph, log = program.model.graph, logging.getLogger("onnx_ir")
    values, level = [graph.initializers[name] for name in names], log.level
    graph.inputs.extend(values)
    # it tells of each that it is an input
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        # what optimizes may return a new model
        kept = {value.name: value for value in program.model.graph.inputs}
        for name in names:
            program.model.graph.inputs.remove(kept[name])
