"""External data: files in the folder of a model that hold its weights."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from nncf_core.errors import InvalidPathError
from nncf_onnx.mapped import MappedFile, MappedTensor
from nncf_onnx.slots import slots
from nncf_onnx.wire import SELF

EXTERNAL_DATA_DIR = "external_data_dir"

_MARK = "nncf_onnx.external_data"


def has_external_data(model: ir.Model) -> bool:
    """Whether the model had weights in files of their own when it was opened."""
    return bool(model.meta.get(_MARK))


def map_tensors(model: ir.Model, folder: Path, itself: MappedFile | None) -> None:
    """Replace onnx_ir's external tensors, which read whole files, by mapped ones.

    :param folder: where external data lies; of tensors that know their folder: that one.
    :param itself: the model file, which holds what its skeleton refers to.
    :raises InvalidPathError: when a file is missing or lies outside the folder.
    :raises UnsupportedModelError: when a tensor does not lie in its file.
    """
    files: dict[Path, MappedFile] = {}
    for slot in slots(model):
        tensor = slot.tensor
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        location = str(tensor.location)
        if itself is not None and location == SELF:
            file = itself
        else:
            path = _inside(Path(tensor.base_dir) if str(tensor.base_dir) else folder, location, slot.name)
            file = files[path] if path in files else files.setdefault(path, MappedFile(path))
            model.meta[_MARK] = True
        slot.put(MappedTensor.of(tensor, file))


def _inside(folder: Path, location: str, tensor: str) -> Path:
    """The path of external data, which must lie in the model's folder, links followed."""
    try:
        path = (folder / location).resolve()
        inside = not Path(location).is_absolute() and path.is_relative_to(folder.resolve())
        found = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a zero byte, a loop of links
        raise InvalidPathError(
            f"The external data {location[:100]!r} of tensor {tensor!r} is no file in {folder}: {error}."
        ) from None
    if not inside:
        raise InvalidPathError(
            f"The external data {location!r} of tensor {tensor!r} is {path}, outside of the model's folder {folder}; "
            "only what lies in it is read. Copy both files to one folder."
        )
    if path.exists() and not found:
        kind = "a folder" if path.is_dir() else "a device, a pipe or a socket"
        raise InvalidPathError(f"The external data {location!r} of tensor {tensor!r} is {kind} ({path}), not a file.")
    if not found:
        raise InvalidPathError(
            f"The external data {location!r} of tensor {tensor!r} is missing in {folder}. Where it lies elsewhere, "
            f"give the absolute path of the folder in backend_params: {EXTERNAL_DATA_DIR}."
        )
    return path
