"""The strip formats that need nothing but the graph; the core registers them as its own plugin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from nncf_core.contracts import StripFormat
from nncf_core.graph import Graph
from nncf_core.hookspecs import HOOK_API, hookimpl
from nncf_core.numerics.kernels import decompress
from nncf_core.parameters import StripFormat as Name
from nncf_core.transformations import CompressConstant, FoldMask, ReplaceConstant, Transformation

NNCF_HOOK_API = HOOK_API


class Native:
    """The model stays in the form in which its framework converts and runs it; weights are what masks leave of them."""

    name: ClassVar[str] = str(Name.NATIVE)

    def strip(self, graph: Graph) -> Iterator[Transformation]:
        """One edit for each mask."""
        for constant in graph.constants.values():
            if constant.masked:
                yield FoldMask(constant.name, "masked for good")


class StoreLowBit:
    """Constants that are rounded whenever they are read are stored in their low-bit form."""

    name: ClassVar[str] = str(Name.DQ)

    def strip(self, graph: Graph) -> Iterator[Transformation]:
        """One compression for each constant that the model stores as floating-point numbers and rounds.

        Of others with a mask, what that leaves.
        """
        for constant in graph.constants.values():
            if constant.masked and constant.compressed is None:
                yield FoldMask(constant.name, "masked for good")
            if constant.compressed is not None and constant.stored_as_float:
                yield CompressConstant(constant.name, constant.compressed(), "stored as it is rounded")


class InPlace:
    """Compressed constants become float constants that hold the decompressed values."""

    name: ClassVar[str] = str(Name.IN_PLACE)

    def strip(self, graph: Graph) -> Iterator[Transformation]:
        """One replacement for each compressed constant, and one edit for each mask."""
        for constant in graph.constants.values():
            if constant.compressed is not None:
                yield ReplaceConstant(
                    constant.name,
                    decompress(constant.compressed()),
                    reason=f"decompressed from {constant.compressed_format}",
                )
            if constant.masked:
                yield FoldMask(constant.name, "masked for good")


@hookimpl
def nncf_strip_formats() -> Iterable[StripFormat]:
    """NATIVE, DQ and IN_PLACE."""
    return [Native(), StoreLowBit(), InPlace()]
