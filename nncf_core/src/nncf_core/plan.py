"""The plan: what is done to which constant or target point, and why.

Its entries are light and always kept; its transformations hold the arrays. A plan that was kept whole can be
stored as JSON and arrays, looked at, and applied to the same model elsewhere.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from attrs import asdict, evolve, frozen

from nncf_core.errors import InvalidPathError, ValidationError, sentence
from nncf_core.files import replacing, unwritable
from nncf_core.graph import Constant, Graph
from nncf_core.low_rank import as_constant
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.plan_files import converter_for
from nncf_core.transformations import (
    FoldMask,
    InsertBias,
    InsertLowRank,
    InsertMask,
    InsertMultiply,
    InsertQuantizer,
    InsertThreshold,
    ReplaceConstant,
    ResizeOutput,
    ShrinkConstant,
    Transformation,
)

_VERSION = 2


@frozen
class PlanEntry:
    """One edit, without its arrays.

    :param algorithm: name of the algorithm that asked for it.
    :param action: ``compress``, ``replace``, ``mask``, ``fold_mask``, ``low_rank``, ``multiply``, ``threshold``,
        ``bias``, ``quantize``, ``shrink`` or ``resize``.
    :param target: name of the constant or layer, or the target point.
    :param users: names of the nodes that use the constant.
    :param shape: shape of the constant.
    :param dtype: element type before.
    :param format: number format after; ``""`` when it is not compressed.
    :param group_size: elements that share a scale, ``-1`` for a whole channel.
    :param bytes_before: bytes that the constant took; ``0`` of a low-rank branch.
    :param bytes_after: bytes of codes, scales and zero points; of the matrices of a low-rank branch.
    :param reason: why.
    """

    algorithm: str
    action: str
    target: str
    users: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = ""
    format: str = ""
    group_size: int = -1
    bytes_before: int = 0
    bytes_after: int = 0
    reason: str = ""


Size: TypeAlias = Callable[[Constant, CompressedTensor], int]
"""Bytes that a constant takes in a model, once it is compressed."""


def in_memory(constant: Constant, tensor: CompressedTensor) -> int:
    """Bytes that a compressed constant takes in memory; most models store it so, too."""
    return tensor.nbytes


def entry_for(algorithm: str, transformation: Transformation, graph: Graph, size: Size = in_memory) -> PlanEntry:
    """The light description of a transformation."""
    if isinstance(transformation, InsertMultiply):
        return PlanEntry(algorithm, "multiply", str(transformation.target), reason=transformation.reason)
    if isinstance(transformation, InsertThreshold):
        return PlanEntry(algorithm, "threshold", str(transformation.target), reason=transformation.reason)
    if isinstance(transformation, InsertBias):
        return PlanEntry(algorithm, "bias", transformation.node, reason=transformation.reason)
    if isinstance(transformation, InsertQuantizer):
        return PlanEntry(
            algorithm,
            "quantize",
            str(transformation.target),
            format=transformation.quantizer.format,
            reason=transformation.reason,
        )
    if isinstance(transformation, ResizeOutput):
        return PlanEntry(algorithm, "resize", transformation.node, reason=transformation.reason)
    constant = graph.constants[transformation.constant]
    entry = PlanEntry(
        algorithm,
        "replace",
        constant.name,
        tuple(dict.fromkeys(node.name for node, _ in graph.users(constant.name))),
        constant.shape,
        constant.dtype,
        bytes_before=constant.stored_bytes,
        bytes_after=constant.stored_bytes,
        reason=transformation.reason,
    )
    if isinstance(transformation, ReplaceConstant):
        return entry
    if isinstance(transformation, ShrinkConstant):
        left = constant.stored_bytes * len(transformation.kept) // constant.shape[transformation.axis]
        return evolve(entry, action="shrink", bytes_after=left)
    if isinstance(transformation, (InsertMask, FoldMask)):
        return evolve(entry, action="mask" if isinstance(transformation, InsertMask) else "fold_mask")
    if isinstance(transformation, InsertLowRank):
        return _entry_of_branch(entry, transformation, graph, size)
    tensor = transformation.tensor
    return evolve(
        entry,
        action="compress",
        format=tensor.format.name,
        group_size=tensor.group_size,
        bytes_after=size(constant, tensor),
    )


def _entry_of_branch(entry: PlanEntry, edit: InsertLowRank, graph: Graph, size: Size) -> PlanEntry:
    total, formats = 0, []
    for adapter in (edit.down, edit.up):
        known = as_constant(graph, edit.constant, adapter)
        if isinstance(adapter, CompressedTensor):
            formats.append(adapter.format.name)
            total += size(known, adapter)
        else:
            formats.append("")
            total += known.size * np.dtype(known.dtype).itemsize
    return evolve(entry, action="low_rank", format=formats[0], bytes_before=0, bytes_after=total)


@frozen
class Plan:
    """Edits in the order in which they are applied.

    :param framework: backend that the plan was made for.
    :param entries: one light description for each edit.
    :param steps: the edits of each algorithm's round; empty when the arrays were not kept.
    """

    framework: str
    entries: tuple[PlanEntry, ...]
    steps: tuple[tuple[str, tuple[Transformation, ...]], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The entries as plain data."""
        return {"framework": self.framework, "entries": [asdict(entry) for entry in self.entries]}

    def save(self, folder: Path) -> None:
        """Write ``plan.json`` and ``arrays.npz`` into a folder, which is made when it does not exist.

        :raises ValidationError: when the plan was made without keeping its arrays.
        :raises InvalidPathError: when the folder cannot be written to, or the disk is full.
        """
        if self.entries and not self.steps:
            raise ValidationError("This plan holds no arrays; make it with nncf_core.pipeline.make_plan.")
        arrays: dict[str, np.ndarray] = {}
        data = {"version": _VERSION, **converter_for(arrays).unstructure(self)}
        text = json.dumps(data, indent=1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / "arrays.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            with replacing(folder / "plan.json") as temporary:
                temporary.write_text(text)
        except OSError as error:
            raise unwritable(folder, error, "the plan to") from None

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Read a plan that :meth:`save` wrote.

        :raises InvalidPathError: when a file is missing.
        :raises ValidationError: when a file is not a plan.
        """
        from cattrs import BaseValidationError, transform_error

        try:
            data = json.loads((folder / "plan.json").read_text())
            # a file of our own: numpy leaves the one it opens open when the archive is broken
            with (folder / "arrays.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if data["version"] != _VERSION:
                    raise ValidationError(
                        f"{folder} holds a plan of version {data['version']}, not {_VERSION}: make it anew."
                    )
                return converter_for(arrays).structure(data, cls)
        except FileNotFoundError as error:
            raise InvalidPathError(
                f"{folder} holds no plan: {error.filename} is missing; give the folder that --save-plan named."
            ) from None
        except ValidationError:
            raise
        except BaseValidationError as error:
            what = "; ".join(transform_error(error, path="plan"))
            raise ValidationError(f"{folder} does not hold a readable plan: {what}. Make it anew.") from None
        except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValidationError(f"{folder} does not hold a readable plan: {sentence(error)} Make it anew.") from None


def describe(
    algorithm: str,
    transformations: Iterable[Transformation],
    graph: Graph,
    entries: list[PlanEntry],
    size: Size = in_memory,
) -> Iterator[Transformation]:
    """Yield the transformations and append the light description of each to ``entries`` as it passes."""
    for transformation in transformations:
        entries.append(entry_for(algorithm, transformation, graph, size))
        yield transformation
