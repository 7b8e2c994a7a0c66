"""The plan: what is done to which constant or target point, and why.

Its entries are light and always kept; its transformations hold the arrays. A plan that was kept whole can be
stored as JSON and arrays, looked at, and applied to the same model elsewhere.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes  # noqa: F401 - registers the low-bit dtypes' names with numpy
import numpy as np
from attrs import asdict, evolve, frozen

from nncf_core.errors import InvalidPathError, ValidationError, sentence
from nncf_core.files import replacing, unwritable
from nncf_core.graph import Constant, Graph
from nncf_core.low_rank import as_constant
from nncf_core.numerics.arrays import Array, to_host
from nncf_core.numerics.formats import NumberFormat
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import (
    Adapter,
    CompressConstant,
    FoldMask,
    InsertBias,
    InsertLowRank,
    InsertMask,
    InsertMultiply,
    InsertQuantizer,
    InsertThreshold,
    MaskKind,
    PointKind,
    ReplaceConstant,
    ResizeOutput,
    ShrinkConstant,
    TargetPoint,
    Training,
    Transformation,
)

_VERSION = 1


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
        steps = [
            {"algorithm": name, "transformations": [_encode(t, arrays) for t in transformations]}
            for name, transformations in self.steps
        ]
        text = json.dumps({"version": _VERSION, **self.to_json(), "steps": steps}, indent=1)
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
        try:
            data = json.loads((folder / "plan.json").read_text())
            # a file of our own: numpy leaves the one it opens open when the archive is broken
            with (folder / "arrays.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if data["version"] != _VERSION:
                    raise ValidationError(
                        f"{folder} holds a plan of version {data['version']}, not {_VERSION}: make it anew."
                    )
                steps = tuple(
                    (step["algorithm"], tuple(_decode(t, arrays) for t in step["transformations"]))
                    for step in data["steps"]
                )
            entries = tuple(PlanEntry(**_tuples(entry)) for entry in data["entries"])
            return cls(data["framework"], entries, steps)
        except FileNotFoundError as error:
            raise InvalidPathError(
                f"{folder} holds no plan: {error.filename} is missing; give the folder that --save-plan named."
            ) from None
        except (KeyError, TypeError, ValueError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            if isinstance(error, ValidationError):
                raise
            raise ValidationError(f"{folder} does not hold a readable plan: {sentence(error)} Make it anew.") from None


def _store(array: Array, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    array = to_host(array)
    # npz knows numpy's own dtypes only: store bytes beside the dtype's name
    key = f"a{len(arrays)}"
    arrays[key] = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    return {"array": key, "dtype": array.dtype.name, "shape": list(array.shape)}


def _fetch(reference: Mapping[str, Any] | None, arrays: Any) -> Any:
    if reference is None:
        return None
    raw: np.ndarray = arrays[reference["array"]]
    return raw.view(np.dtype(reference["dtype"])).reshape(reference["shape"])


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


def _encode_adapter(adapter: Adapter, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return _encode_tensor(adapter, arrays) if isinstance(adapter, CompressedTensor) else _store(adapter, arrays)


def _encode_tensor(tensor: CompressedTensor, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    tensor = tensor.on_host()
    optional = {"zero_point": tensor.zero_point, "codebook": tensor.codebook}
    return {
        "format": asdict(tensor.format),
        "codes": _store(tensor.codes, arrays),
        "scale": _store(tensor.scale, arrays),
        **{name: None if array is None else _store(array, arrays) for name, array in optional.items()},
        "tensor": {
            name: getattr(tensor, name)
            for name in ("shape", "dtype", "reduction_axes", "group_axis", "group_size", "global_scale")
        },
    }


def _encode(transformation: Transformation, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if isinstance(transformation, InsertMultiply):
        target = transformation.target
        return {
            "multiply": {"node": target.node, "kind": target.kind.value, "port": target.port},
            "factor": _store(transformation.factor, arrays),
            "name": transformation.name,
            "reason": transformation.reason,
        }
    if isinstance(transformation, InsertThreshold):
        target = transformation.target
        return {
            "threshold": {"node": target.node, "kind": target.kind.value, "port": target.port},
            "value": transformation.threshold,
            "name": transformation.name,
            "reason": transformation.reason,
        }
    if isinstance(transformation, InsertQuantizer):
        target, quantizer = transformation.target, transformation.quantizer
        return {
            "quantize": {"node": target.node, "kind": target.kind.value, "port": target.port},
            "scale": _store(quantizer.scale, arrays),
            "zero_point": _store(quantizer.zero_point, arrays),
            "integers": [quantizer.lo, quantizer.hi],
            "float8": quantizer.float8,
            "axis": quantizer.axis,
            "name": transformation.name,
            "reason": transformation.reason,
        }
    if isinstance(transformation, InsertBias):
        return {
            "bias": transformation.node,
            "value": _store(transformation.value, arrays),
            "reason": transformation.reason,
        }
    if isinstance(transformation, ReplaceConstant):
        return {
            "replace": transformation.constant,
            "value": _store(transformation.value, arrays),
            "reason": transformation.reason,
        }
    if isinstance(transformation, InsertLowRank):
        return {
            "low_rank": transformation.constant,
            "down": _encode_adapter(transformation.down, arrays),
            "up": _encode_adapter(transformation.up, arrays),
            "reason": transformation.reason,
        }
    if isinstance(transformation, ShrinkConstant):
        return {
            "shrink": transformation.constant,
            "axis": transformation.axis,
            "kept": list(transformation.kept),
            "reason": transformation.reason,
        }
    if isinstance(transformation, ResizeOutput):
        return {
            "resize": transformation.node,
            "before": [list(shape) for shape in transformation.before],
            "after": [list(shape) for shape in transformation.after],
            "slices": [list(numbers) for numbers in transformation.slices],
            "reason": transformation.reason,
        }
    if isinstance(transformation, InsertMask):
        return {
            "mask": transformation.constant,
            "value": _store(transformation.mask, arrays),
            "kind": transformation.kind.value,
            "reason": transformation.reason,
        }
    if isinstance(transformation, FoldMask):
        return {"fold_mask": transformation.constant, "reason": transformation.reason}
    return {
        "compress": transformation.constant,
        **_encode_tensor(transformation.tensor, arrays),
        "reason": transformation.reason,
        "integer_operand": transformation.integer_operand,
        "training": None if transformation.training is None else asdict(transformation.training),
        "integers": None if transformation.integers is None else list(transformation.integers),
    }


def _decode(data: Mapping[str, Any], arrays: Any) -> Transformation:
    reason = data["reason"]
    if "multiply" in data:
        where = data["multiply"]
        point = TargetPoint(where["node"], PointKind(where["kind"]), where["port"])
        return InsertMultiply(point, _fetch(data["factor"], arrays), data["name"], reason)
    if "threshold" in data:
        where = data["threshold"]
        point = TargetPoint(where["node"], PointKind(where["kind"]), where["port"])
        return InsertThreshold(point, data["value"], data["name"], reason)
    if "quantize" in data:
        where, integers = data["quantize"], data["integers"]
        point = TargetPoint(where["node"], PointKind(where["kind"]), where["port"])
        scale, zero_point = _fetch(data["scale"], arrays), _fetch(data["zero_point"], arrays)
        quantizer = Quantizer(scale, zero_point, integers[0], integers[1], data["axis"], data.get("float8"))
        return InsertQuantizer(point, quantizer, data["name"], reason)
    if "bias" in data:
        return InsertBias(data["bias"], _fetch(data["value"], arrays), reason)
    if "replace" in data:
        return ReplaceConstant(data["replace"], _fetch(data["value"], arrays), reason)
    if "low_rank" in data:
        down, up = (_decode_adapter(data[name], arrays) for name in ("down", "up"))
        return InsertLowRank(data["low_rank"], down, up, reason)
    if "shrink" in data:
        return ShrinkConstant(data["shrink"], data["axis"], data["kept"], reason)
    if "resize" in data:
        before, after, slices = (tuple(map(tuple, data[key])) for key in ("before", "after", "slices"))
        return ResizeOutput(data["resize"], before, after, slices, reason)
    if "mask" in data:
        return InsertMask(data["mask"], _fetch(data["value"], arrays), MaskKind(data["kind"]), reason)
    if "fold_mask" in data:
        return FoldMask(data["fold_mask"], reason)
    training, integers = data.get("training"), data.get("integers")
    return CompressConstant(
        data["compress"],
        _decode_tensor(data, arrays),
        reason,
        data.get("integer_operand", False),
        None if training is None else Training(**training),
        None if integers is None else (integers[0], integers[1]),
    )


def _decode_adapter(data: Mapping[str, Any], arrays: Any) -> Adapter:
    return _decode_tensor(data, arrays) if "codes" in data else _fetch(data, arrays)


def _decode_tensor(data: Mapping[str, Any], arrays: Any) -> CompressedTensor:
    plain = _tuples(data["tensor"])
    return CompressedTensor(
        format=NumberFormat(**_tuples(data["format"])),
        codes=_fetch(data["codes"], arrays),
        scale=_fetch(data["scale"], arrays),
        zero_point=_fetch(data["zero_point"], arrays),
        codebook=_fetch(data["codebook"], arrays),
        **plain,
    )


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
