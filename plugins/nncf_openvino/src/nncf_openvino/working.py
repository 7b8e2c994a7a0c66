"""The working model of a run."""

from __future__ import annotations

import numpy as np
import openvino as ov
from attrs import define, field

from nncf_openvino.mapped import MappedFile
from nncf_openvino.spool import Spool


@define(eq=False)
class WeightFile:
    """The .bin file of a model, mapped a second time: pages that are read through this map can be given back.

    :param file: the map.
    :param base: where OpenVINO has mapped the first byte.
    """

    file: MappedFile
    base: int

    def offset(self, view: np.ndarray) -> int | None:
        """Where OpenVINO's view of a constant begins in the file; ``None`` when it lies elsewhere."""
        offset = view.ctypes.data - self.base
        inside = view.nbytes > 0 and offset >= 0 and offset + view.nbytes <= self.file.size
        return offset if inside else None


@define(eq=False)
class WorkingModel:
    """A model that a run owns and changes in place.

    :param model: the OpenVINO model.
    :param weights: its .bin file, when it was opened from a path.
    :param spool: takes what is compressed until it is written; ``None`` where the user will have the model itself,
        whose constants then have memory of their own.
    :param inputs: names that the runner knows inputs by, in their order, where these are not the model's own.
    :param outputs: likewise.
    :param kept: memory that constants of the model refer to.
    """

    model: ov.Model
    weights: WeightFile | None = None
    spool: Spool | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    kept: list[np.ndarray] = field(factory=list)
