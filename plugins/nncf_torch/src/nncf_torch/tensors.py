"""Tensors as the core's kernels take them: numpy views of the CPU's memory; what lies elsewhere as it is."""

from __future__ import annotations

from functools import cache
from itertools import chain

import ml_dtypes
import numpy as np
import torch
from torch import nn

from nncf_core.numerics.arrays import Array

_SAME_SIZE = {1: torch.uint8, 2: torch.int16}
_BEYOND_NUMPY = {
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
    torch.float8_e4m3fn: np.dtype(ml_dtypes.float8_e4m3fn),
    torch.float8_e5m2: np.dtype(ml_dtypes.float8_e5m2),
    torch.float8_e8m0fnu: np.dtype(ml_dtypes.float8_e8m0fnu),
}
_FROM_ML_DTYPES = {numpy_dtype: dtype for dtype, numpy_dtype in _BEYOND_NUMPY.items()}


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """The name that numpy and ``ml_dtypes`` have for an element type, e.g. ``bfloat16``."""
    return str(dtype).removeprefix("torch.")


def torch_dtype(name: str) -> torch.dtype:
    """The element type of a name of :func:`dtype_name`."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def device_of(module: nn.Module) -> torch.device:
    """Where a module's first parameter or buffer lies; the CPU where it has none."""
    return next((tensor.device for tensor in chain(module.parameters(), module.buffers())), torch.device("cpu"))


def stays(tensor: torch.Tensor) -> bool:
    """Whether kernels get the tensor itself, and work on its device.

    What lies in the CPU's memory they get as a view of numpy's. Apple's ``mps`` has no float64, and shares that memory.
    """
    return tensor.device.type not in ("cpu", "mps")


def resident_of(tensor: torch.Tensor) -> Array:
    """The values where they lie, for the core's kernels; not to be written to."""
    return tensor.detach() if stays(tensor) else array_of(tensor)


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """A read-only array of a tensor's values: a view of its memory, or a copy when it is not on the CPU."""
    plain = tensor.detach()
    if plain.device.type != "cpu":
        plain = plain.cpu()
    beyond = _BEYOND_NUMPY.get(plain.dtype)
    if beyond is not None:
        array = plain.view(_SAME_SIZE[plain.element_size()]).numpy().view(beyond)
    else:
        array = plain.resolve_conj().resolve_neg().numpy()
    assert isinstance(array, np.ndarray)
    array.flags.writeable = False
    return array


def numpy_of(values: np.ndarray | torch.Tensor) -> np.ndarray:
    """The array of what may be either."""
    return array_of(values) if isinstance(values, torch.Tensor) else values


def tensor_of(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """A tensor that shares the memory of an array, which nobody else writes to afterwards."""
    if isinstance(array, torch.Tensor):
        return array
    array = np.asarray(array)
    dtype = _FROM_ML_DTYPES.get(array.dtype)
    if not array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C")
    if dtype is None:
        return torch.from_numpy(array)
    plain = array.view(np.uint8 if array.itemsize == 1 else np.int16)
    return torch.from_numpy(plain).view(dtype)


def cast_tensor(array: np.ndarray | torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of these values in an element type."""
    return array.to(dtype) if isinstance(array, torch.Tensor) else tensor_of(array.astype(np.dtype(dtype_name(dtype))))
