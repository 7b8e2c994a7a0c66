"""Making constants, and giving a model's constants memory of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino.op import Constant

from nncf_openvino.element_types import FLOATS, raw_bytes, type_name
from nncf_openvino.traversal import bodies, walk
from nncf_openvino.working import WorkingModel

SMALL = 1 << 12
"""Bytes; smaller constants are not worth being held apart, or looked at for others on the same memory."""


def constant(working: WorkingModel, raw: np.ndarray, shape: Sequence[int], kind: ov.Type, name: str) -> Constant:
    """A new constant.

    :param working: the model that it is for; holds the memory when that is not the constant's own.
    :param raw: its bytes, one dimension.
    """
    if working.spool is None or raw.nbytes < SMALL:
        result = _copied(raw, shape, kind)
    else:
        held = working.spool.put(raw)
        # OpenVINO does not keep the array alive
        working.kept.append(held)
        result = Constant(ov.Tensor(held, list(shape), kind), shared_memory=True)
    result.set_friendly_name(name)
    return result


def owning(working: WorkingModel) -> ov.Model:
    """The model, with memory of its own for what the working model holds."""
    held = {array.ctypes.data for array in working.kept}
    for node, _ in list(walk(working.model)) if held else ():
        if node.get_type_name() != "Constant" or node.get_element_type() == ov.Type.string:
            continue
        view = raw_bytes(node)
        if view.ctypes.data in held:
            new = _copied(view, list(node.shape), node.get_element_type())
            new.set_friendly_name(node.get_friendly_name())
            _give_users(node, new)
    return working.model


def join_shared(model: ov.Model) -> ov.Model:
    """Change a model so that weights on one memory are one constant, with the name of the first.

    OpenVINO writes constants of equal bytes once, and reads them as several; a tied table would be compressed twice.
    """
    found: dict[tuple[object, ...], Constant] = {}
    for node in model.get_ordered_ops():
        for body in bodies(node):
            join_shared(body.model)
        kind = type_name(node.get_element_type()) if node.get_type_name() == "Constant" else ""
        if kind not in FLOATS or len(node.shape) < 2 or node.get_byte_size() < SMALL:
            continue
        first = found.setdefault((raw_bytes(node).ctypes.data, kind, tuple(node.shape)), node)
        if first is not node:
            _give_users(node, first)
    return model


def _give_users(old: Constant, new: Constant) -> None:
    names = old.output(0).get_names()
    for user in old.output(0).get_target_inputs():
        user.replace_source_output(new.output(0))
    if names:
        old.output(0).get_tensor().set_names(set())
        new.output(0).get_tensor().add_names(names)


def _copied(raw: np.ndarray, shape: Sequence[int], kind: ov.Type) -> Constant:
    if raw.size == 0:
        return Constant(kind, ov.Shape(list(shape)), np.zeros(0, np.float32))
    if not (raw.flags.c_contiguous and raw.flags.writeable):
        raw = raw.copy()  # OpenVINO takes no read-only arrays
    return Constant(ov.Tensor(raw, list(shape), kind), shared_memory=False)
