"""Edits as plain data beside arrays, and back: what a plan is stored as."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import ml_dtypes  # noqa: F401 - registers the low-bit dtypes' names with numpy
import numpy as np

from nncf_core.numerics.arrays import to_host
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import Adapter, Transformation

if TYPE_CHECKING:
    from cattrs import Converter

Arrays = MutableMapping[str, np.ndarray]
"""The arrays of a file, by name."""


def converter_for(arrays: Arrays | Mapping[str, np.ndarray]) -> Converter:
    """What turns attrs classes into plain data and back, with each array as a reference to one of ``arrays``.

    :param arrays: where arrays are put, or found.
    """
    # cattrs takes 40 ms to import: only those who store plans pay
    from cattrs import Converter
    from cattrs.gen import make_dict_unstructure_fn
    from cattrs.strategies import configure_tagged_union

    converter = Converter()
    converter.register_unstructure_hook(np.ndarray, lambda array: _store(array, arrays))
    converter.register_structure_hook(np.ndarray, lambda data, _: _fetch(data, arrays))
    fields_of_tensor = make_dict_unstructure_fn(CompressedTensor, converter)
    converter.register_unstructure_hook(CompressedTensor, lambda tensor: fields_of_tensor(tensor.on_host()))
    converter.register_unstructure_hook_func(
        _is_adapter,
        lambda value: converter.unstructure(value, CompressedTensor if _is_tensor(value) else np.ndarray),
    )
    converter.register_structure_hook_func(
        _is_adapter, lambda data, _: converter.structure(data, CompressedTensor if "codes" in data else np.ndarray)
    )
    configure_tagged_union(Transformation, converter, tag_name="edit")
    return converter


def _is_adapter(cls: object) -> bool:
    return cls == Adapter


def _is_tensor(value: object) -> bool:
    return isinstance(value, CompressedTensor)


def _store(array: Any, arrays: Any) -> dict[str, Any]:
    array = to_host(array)
    # npz knows numpy's own dtypes only: store bytes beside the dtype's name
    key = f"a{len(arrays)}"
    arrays[key] = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    return {"array": key, "dtype": array.dtype.name, "shape": list(array.shape)}


def _fetch(reference: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    raw: np.ndarray = arrays[reference["array"]].view(np.dtype(reference["dtype"]))
    return raw.reshape(reference["shape"])
