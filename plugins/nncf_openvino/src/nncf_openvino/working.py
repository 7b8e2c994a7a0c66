"""The working model of a run."""

from __future__ import annotations

import numpy as np
import openvino as ov
from attrs import define, field

from nncf_openvino.naming import Names
from nncf_openvino.spool import Spool


@define(eq=False)
class WorkingModel:
    """A model that a run owns and changes in place.

    :param model: the OpenVINO model.
    :param spool: takes what is compressed until it is written; ``None`` where the user will have the model itself,
        whose constants then have memory of their own.
    :param inputs: names that the runner knows inputs by, in their order, where these are not the model's own.
    :param outputs: likewise.
    :param kept: memory that constants of the model refer to.
    :param names: those of the graph that was built last, until the model is changed.
    """

    model: ov.Model
    spool: Spool | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    kept: list[np.ndarray] = field(factory=list)
    names: Names | None = None
