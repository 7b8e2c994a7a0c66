"""Model files: ``.toy``, an npz archive."""

from __future__ import annotations

import zipfile

import numpy as np

from nncf_core.errors import InvalidPathError, UnsupportedModelError
from nncf_core.files import replacing
from toy_framework import Factor, Layer, Network

_PARTS = ("weight", "bias", "scale", "zero_point")


def write(model, path):
    """Write a model, atomically."""
    arrays = {
        "names": np.array([layer.name for layer in model.layers], "U"),
        "relu": np.array([layer.relu for layer in model.layers]),
        "factor_names": np.array([factor.name for factor in model.factors], "U"),
        "factor_indices": np.array([factor.index for factor in model.factors], np.int64),
        **{f"factor{i}": factor.values for i, factor in enumerate(model.factors)},
    }
    for i, layer in enumerate(model.layers):
        parts = {part: getattr(layer, part) for part in _PARTS}
        arrays |= {f"{part}{i}": array for part, array in parts.items() if array is not None}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read(path):
    """Read a model."""
    if not path.is_file():
        raise InvalidPathError(f"There is no model file {path}.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            arrays = dict(data)
        layers = [
            Layer(str(name), relu=bool(arrays["relu"][i]), **{part: arrays.get(f"{part}{i}") for part in _PARTS})
            for i, name in enumerate(arrays["names"])
        ]
        places = zip(arrays["factor_names"], arrays["factor_indices"], strict=True)
        factors = [Factor(str(name), int(index), arrays[f"factor{i}"]) for i, (name, index) in enumerate(places)]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UnsupportedModelError(f"{path} is not a readable model: {error}") from None
    return Network(layers, factors)
