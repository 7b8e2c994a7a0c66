"""Opening models: from a path with weights left in the file, or from a model in memory."""

from __future__ import annotations

from pathlib import Path

import openvino as ov

from nncf_core.errors import InvalidPathError, UnsupportedModelError
from nncf_core.memory import is_of_memory
from nncf_openvino.constants import SMALL, join_shared
from nncf_openvino.ir_file import stored_constants, weights_path
from nncf_openvino.spool import Spool
from nncf_openvino.working import WorkingModel


def open_model(model: ov.Model, *, copy: bool = True) -> WorkingModel:
    """A copy of a model that shares its constants, or the very model."""
    return WorkingModel(join_shared(model.clone() if copy else model))


def open_path(path: Path) -> WorkingModel:
    """The model of an .xml file, with its weights left in the .bin file.

    :raises InvalidPathError: when a file is missing, or the .bin file is a link out of the model's folder.
    :raises UnsupportedModelError: when the model is malformed.
    :raises UnsupportedVersionError: when its version is not supported.
    """
    stored = stored_constants(path)
    weights = weights_path(path)
    end = max((constant.offset + constant.size for constant in stored), default=0)
    if end == 0 and not weights.exists():
        return WorkingModel(_read(path, None), Spool())
    if not weights.is_file():
        raise InvalidPathError(f"{path} needs its weights {weights}, which do not exist; copy them beside it.")
    size = weights.stat().st_size
    if end > size:
        beyond = max(stored, key=lambda constant: constant.offset + constant.size)
        raise UnsupportedModelError(
            f"The constant {beyond.name!r} of {path} lies at bytes {beyond.offset} to {end} of {weights.name}, which "
            f"has {size}: the file is truncated or belongs to another model."
        )
    model = _read(path, weights)
    # OpenVINO is asked about each constant only where the file says that some share their bytes
    large = [constant.offset for constant in stored if constant.size >= SMALL]
    return WorkingModel(join_shared(model) if len(set(large)) < len(large) else model, Spool())


def _read(path: Path, weights: Path | None) -> ov.Model:
    try:
        return ov.Core().read_model(path) if weights is None else ov.Core().read_model(path, weights)
    except RuntimeError as error:
        if is_of_memory(error):
            raise MemoryError(f"OpenVINO does not read {path}, {reason_of(error)}") from None
        raise UnsupportedModelError(f"OpenVINO does not read {path}: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """What OpenVINO says, without the places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(said) or str(error)
