"""Arrays of other libraries than numpy, seen through the Python array API standard (https://data-apis.org/array-api).

They may lie on any device. What the standard lacks is looked up in the library's namespace by the name that numpy and
``ml_dtypes`` have for it: float16, and element types that weights come in, bfloat16 for instance.
"""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import ml_dtypes  # noqa: F401 - registers the low-bit dtypes' names with numpy
import numpy as np
from attrs import frozen

from nncf_core.errors import ValidationError

# array_api_compat is imported in functions: who has numpy arrays alone never loads it

Array: TypeAlias = Any
"""An array of any library that follows the standard, numpy's among them."""


@frozen
class Space:
    """Where an array lies.

    :param xp: the namespace of its library.
    :param device: its device, as the library calls it.
    """

    xp: Any
    device: Any

    def numbers(self, values: np.ndarray | list[float]) -> Array:
        """A small float32 array with these values.

        Numbers that something is divided by are such arrays, too, never Python's: for those, libraries may multiply by
        the reciprocal, which has other last bits (PyTorch does on GPUs, and not on CPUs).
        """
        plain = np.asarray(values, np.float32).tolist()
        return self.xp.asarray(plain, dtype=self.xp.float32, device=self.device)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array whose content is undefined."""
        return self.xp.empty(shape, dtype=self.dtype(dtype), device=self.device)

    def dtype(self, name: str) -> Any:
        """The library's element type of a name of numpy or ``ml_dtypes``.

        :raises ValidationError: when it has none.
        """
        found = getattr(self.xp, name, None)
        if found is None:
            raise ValidationError(f"{self.xp.__name__} has no element type {name}.")
        return found


def space_of(array: Array) -> Space:
    """Where an array lies."""
    from array_api_compat import array_namespace, device

    return Space(array_namespace(array), device(array))


def is_foreign(array: object) -> bool:
    """Whether it is an array of another library than numpy."""
    if isinstance(array, (np.ndarray, np.generic, list, tuple, float, int)):
        return False
    from array_api_compat import is_array_api_obj

    return bool(is_array_api_obj(array))


def dtype_of(array: Array) -> np.dtype:
    """The element type as numpy and ``ml_dtypes`` have it.

    :raises ValidationError: when they have none.
    """
    if isinstance(array, np.ndarray):
        known: np.dtype = array.dtype
        return known
    name = str(array.dtype).rpartition(".")[2]
    try:
        return np.dtype(name)
    except TypeError:
        raise ValidationError(f"numpy and ml_dtypes know no element type {name!r}.") from None


def size_of(array: Array) -> int:
    """Number of elements."""
    return prod(array.shape)


def nbytes_of(array: Array) -> int:
    """Bytes that the elements take."""
    return size_of(array) * dtype_of(array).itemsize


def to_host(array: Array) -> np.ndarray:
    """The array in numpy: itself, or a copy of what lies elsewhere."""
    if not is_foreign(array):
        return np.asarray(array)
    from array_api_compat import to_device

    dtype, xp = dtype_of(array), space_of(array).xp
    if dtype.isbuiltin != 1:  # numpy takes float32 from others, and all that it holds; a float of 8 or 16 bits is exact
        array = xp.astype(array, xp.float32)
    return np.asarray(to_device(array, "cpu")).astype(dtype, copy=False)


def all_finite(array: Array) -> bool:
    """Whether no element is NaN or infinite; looked at where the array lies."""
    if is_foreign(array):
        xp = space_of(array).xp
        floating = xp.isdtype(array.dtype, "real floating")
        return not floating or bool(xp.all(xp.isfinite(array)))
    array = np.asarray(array)
    # numpy's isfinite does not know the types of ml_dtypes
    return bool(np.isfinite(array if array.dtype.kind in "fiu" else array.astype(np.float32)).all())
