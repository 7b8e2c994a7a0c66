"""Models that give digests of tensors: the runtime reduces them where they lie, in its own order of elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import openvino as ov
from attrs import frozen
from openvino import opset13

from nncf_core.digests import Digest, DigestRequest
from nncf_core.transformations import TargetPoint
from nncf_openvino.working import WorkingModel

_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "min": opset13.reduce_min,
    "max": opset13.reduce_max,
    "mean": opset13.reduce_mean,
    # the CPU plugin has one loop for it
    "mean_square": opset13.reduce_l2,
}


@frozen
class Told:
    """How a digest comes out of a model.

    :param request: what is told.
    :param shape: of the tensor; ``None`` where an output tells it.
    """

    request: DigestRequest
    shape: tuple[int, ...] | None


_IN_BLOCKS = 4
"""From so many axes on the CPU plugin keeps channels in blocks, and sorts elements before it hands a tensor out."""


def rank_at(part: WorkingModel, point: TargetPoint) -> int | None:
    """Number of axes of what an extracted model gives for a point; ``None`` where a digest costs more than the tensor.

    So does one of a tensor that lies in memory as it is handed out. What has no known rank, or holds no floats, is
    given as it is, too.
    """
    assert part.outputs is not None
    port = part.model.output(part.outputs.index(str(point)))
    rank = port.get_partial_shape().rank
    fits = rank.is_static and rank.get_length() >= _IN_BLOCKS and port.get_element_type().is_real()
    return rank.get_length() if fits else None


def digesting(
    part: WorkingModel, digests: Mapping[TargetPoint, DigestRequest]
) -> tuple[WorkingModel, Mapping[str, Told]]:
    """A model that gives digests of some of its outputs in their place, and how they come, by the output's name.

    :param part: an extracted model; it is changed.
    """
    assert part.outputs is not None
    wanted = {str(point): request for point, request in digests.items()}
    results, names, told = [], [], {}
    for name, result in zip(part.outputs, part.model.get_results(), strict=True):
        request = wanted.get(name)
        if request is None:
            results.append(result)
            names.append(name)
            continue
        end = result.input_value(0)
        shape = end.get_partial_shape()
        told[name] = Told(request, tuple(shape.to_shape()) if shape.is_static else None)
        if end.get_element_type() in (ov.Type.f16, ov.Type.bf16):
            end = opset13.convert(end, ov.Type.f32).output(0)  # means want more digits
        axes = opset13.constant(np.asarray(request.reduced, np.int64))
        ends = {each: _REDUCTIONS[each](end, axes, keep_dims=True) for each in request.parts}
        if not shape.is_static:
            ends["shape"] = opset13.shape_of(end)
        results += [opset13.result(node) for node in ends.values()]
        names += [f"{name}|{each}" for each in ends]
    model = ov.Model(results, part.model.get_sinks(), part.model.get_parameters(), part.model.get_friendly_name())
    return WorkingModel(model, inputs=part.inputs, outputs=tuple(names), kept=part.kept), told


def told_by(arrays: Mapping[str, np.ndarray], told: Mapping[str, Told]) -> dict[str, np.ndarray | Digest]:
    """Tensors and digests by the names of their points, from the outputs of a digesting model."""
    found: dict[str, np.ndarray | Digest] = dict(arrays)
    for name, how in told.items():
        shape = tuple(map(int, arrays[f"{name}|shape"])) if how.shape is None else how.shape
        parts = {each: arrays[f"{name}|{each}"] for each in how.request.parts}
        if "mean_square" in parts:
            norm = parts["mean_square"]
            parts["mean_square"] = np.square(norm, dtype=np.float64) * norm.size / max(int(np.prod(shape)), 1)
        found[name] = Digest.of(shape, how.request.reduced, parts)
    return found
