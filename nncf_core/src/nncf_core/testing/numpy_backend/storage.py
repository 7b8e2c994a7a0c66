"""The toy framework's files: one ``.npz`` archive of plain arrays, one of which is the structure as JSON."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - registers the low-bit dtypes' names with numpy
import numpy as np
from attrs import asdict, fields

from nncf_core.errors import InvalidPathError, UnsupportedModelError
from nncf_core.files import replacing
from nncf_core.numerics.formats import NumberFormat
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.testing.numpy_backend.model import Input, NumpyModel, Operation, Stored

_BROKEN = (ValueError, KeyError, TypeError, IndexError, EOFError, OSError, zipfile.BadZipFile, zlib.error)


def write_model(model: NumpyModel, path: Path) -> None:
    """Write a file; the same model gives the same bytes."""
    arrays: dict[str, np.ndarray] = {}
    structure = {
        "inputs": {name: asdict(spec) for name, spec in model.inputs.items()},
        "operations": [asdict(operation) for operation in model.operations],
        "constants": {name: _encode(stored, arrays) for name, stored in model.constants.items()},
        "outputs": model.outputs,
    }
    text = np.frombuffer(json.dumps(structure).encode(), np.uint8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, structure=text, **arrays)  # type: ignore[arg-type]


def read_model(path: Path) -> NumpyModel:
    """Read a file.

    :raises InvalidPathError: when there is none.
    :raises UnsupportedModelError: when it is not a model.
    """
    if not path.is_file():
        raise InvalidPathError(f"There is no model file {path}.")
    try:
        # a file of our own: numpy leaves the one it opens open when the archive is broken
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            data = json.loads(arrays["structure"].tobytes())
            return NumpyModel(
                {name: Input(spec["dtype"], tuple(spec["shape"])) for name, spec in data["inputs"].items()},
                [Operation(**{**o, "inputs": tuple(o["inputs"])}) for o in data["operations"]],
                {name: _decode(stored, arrays) for name, stored in data["constants"].items()},
                data["outputs"],
            )
    except _BROKEN as error:
        raise UnsupportedModelError(f"{path} is not a readable model: {error}") from None


def _encode(stored: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(stored, np.ndarray):
        # npz knows numpy's own dtypes only: store bytes beside the dtype's name
        key = f"a{len(arrays)}"
        arrays[key] = np.frombuffer(np.ascontiguousarray(stored).tobytes(), np.uint8)
        return {"array": key, "dtype": stored.dtype.name, "shape": stored.shape}
    if isinstance(stored, NumberFormat):
        return asdict(stored)
    if isinstance(stored, CompressedTensor):
        return {f.name: _encode(getattr(stored, f.name), arrays) for f in fields(CompressedTensor)}
    return stored


def _decode(data: Mapping[str, Any], arrays: Any) -> Stored:
    if "array" in data:
        return _array(data, arrays)
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    for name in ("codes", "scale", "zero_point", "codebook"):
        plain[name] = None if data[name] is None else _array(data[name], arrays)
    number_format: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data["format"].items()}
    return CompressedTensor(**{**plain, "format": NumberFormat(**number_format)})


def _array(reference: Mapping[str, Any], arrays: Any) -> np.ndarray:
    raw: np.ndarray = arrays[reference["array"]]
    values: np.ndarray = raw.view(np.dtype(reference["dtype"]))
    return np.reshape(values, reference["shape"])
