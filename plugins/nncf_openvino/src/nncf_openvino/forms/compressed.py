"""What is known of a compressed weight that is in a model already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import frozen

from nncf_core.errors import UnsupportedModelError
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.tensor import CompressedTensor


@frozen
class CompressedConstant:
    """A compressed weight.

    :param name: name of the constant before it was compressed: the codes have kept it.
    :param dtype: element type that it decompresses to.
    :param shape: shape that it decompresses to.
    :param format: number format.
    :param granularity: what shares a scale, for people.
    :param stored_bytes: bytes of codes, scales, zero points and tables.
    :param read: reads the compressed form; ``None`` where the core has no such form.
    :param output: the output that users take.
    :param parts: identities of the nodes that it consists of.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    format: str
    granularity: str
    stored_bytes: int
    read: Callable[[], CompressedTensor] | None
    output: Any
    parts: frozenset[int]

    def read_dequantized(self) -> np.ndarray:
        """The values that the codes stand for.

        :raises UnsupportedModelError: when the core has no such form.
        """
        if self.read is None:
            raise UnsupportedModelError(f"The weight {self.name!r} ({self.format}) cannot be decompressed.")
        return decompress(self.read())
