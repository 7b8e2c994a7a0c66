"""Writing models as a stream: one tensor in memory at a time, whatever the size of the model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import onnx_ir as ir

from nncf_core.errors import InvalidPathError
from nncf_core.files import aside, is_aside, replacing
from nncf_onnx.external import has_external_data
from nncf_onnx.opening import external_files
from nncf_onnx.slots import slots
from nncf_onnx.wire import LARGE
from nncf_onnx.writing import FilePair, SingleFile, Writer, reference

LIMIT = 2_000_000_000
"""Bytes of weights above which they are written to a file of their own: protobuf messages end at 2 GiB."""

_PLACEHOLDER = "<streamed>"
_WRITER = "nncf_onnx.writer"


def save(model: ir.Model, path: Path) -> None:
    """Write a model: in one file, or with its large weights in a second one.

    There are two files when the weights exceed :data:`LIMIT`, or the model came with external data itself. The same
    model gives the same bytes.

    :raises InvalidPathError: when the folder is missing or not writable, or the disk is full.
    :raises UnsupportedModelError: when a tensor does not have the data that its shape calls for.
    """
    writer = _writer(model)
    if writer is not None and writer.path == path:
        writer.finish(model)
        return
    with _writing(model, path) as writer:
        writer.finish(model)


@contextmanager
def streaming(model: ir.Model, path: Path) -> Iterator[None]:
    """Within the block, initializers that :func:`stream` is given go to the file at once.

    The block must :func:`save` the model to the same path; the file is in its place when the block ends.

    :raises InvalidPathError: when the folder is missing or not writable, or the disk is full.
    """
    with _writing(model, path) as writer:
        model.meta[_WRITER] = writer
        try:
            yield
        finally:
            del model.meta[_WRITER]


def stream(model: ir.Model, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """What an initializer of the main graph is to hold: the tensor, or what has been written of it.

    :param tensor: named as the initializer, which will not be renamed.
    """
    writer = _writer(model)
    return tensor if writer is None else writer.put(tensor)


def stored_bytes(model: ir.Model) -> int:
    """Bytes of all tensors."""
    return sum(slot.tensor.nbytes for slot in slots(model) if slot.tensor.dtype != ir.DataType.STRING)


@contextmanager
def without_large(model: ir.Model) -> Iterator[dict[str, ir.TensorProtocol]]:
    """Within the block the large initializers of the main graph are placeholders; yields the tensors by name."""
    large: dict[str, ir.TensorProtocol] = {}
    values = model.graph.initializers
    for name, value in values.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes >= LARGE and tensor.dtype != ir.DataType.STRING:
            large[name] = tensor
            value.const_value = reference(tensor, name, _PLACEHOLDER, 0)
    try:
        yield large
    finally:
        for name, tensor in large.items():
            values[name].const_value = tensor


def _writer(model: ir.Model) -> Writer | None:
    writer: Writer | None = model.meta.get(_WRITER)
    return writer


@contextmanager
def _writing(model: ir.Model, path: Path) -> Iterator[Writer]:
    """A writer to temporary files that replace the old ones when the block ends without an error."""
    within = False
    try:
        if stored_bytes(model) < LIMIT and not has_external_data(model):
            with replacing(path) as temporary, closing(SingleFile(path, temporary, model)) as writer:
                within = True
                yield writer
                within = False
            return
        with _replacing_pair(path) as (data, messages), closing(FilePair(path, data, messages)) as writer:
            within = True
            yield writer
            within = False
    except OSError as error:
        if within:
            raise
        raise InvalidPathError(f"Cannot write {path}: {error.strerror or error}.") from None


@contextmanager
def _replacing_pair(path: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Temporary files that become a model and its external data when the block ends without an error.

    A process may die between two renames. So that the model has its data at every moment, one that replaces another
    first refers to the data's temporary name: its renaming is the one step from the old pair to the new.

    :return: the file for the data, and one for the message by each name under which it is to refer to the data.
    """
    data = path.with_name(path.name + ".data")
    if not data.exists():
        with replacing(path) as message, replacing(data) as temporary:
            yield temporary, {data.name: message}
        return
    # a process that died left the temporary name
    if not any(name == data.name or is_aside(name, data) for name in external_files(path)):
        raise InvalidPathError(
            f"Cannot write {path}: its weights go to {data.name}, which exists and does not belong to a model "
            f"{path.name}. Remove it, or choose another name."
        )
    with aside(data) as temporary, replacing(path) as message, replacing(data) as renamed:
        with replacing(path) as first:
            yield temporary, {temporary.name: first, data.name: message}
        renamed.unlink()
        try:
            os.link(temporary, renamed)
        except OSError:  # a file system without hard links
            shutil.copyfile(temporary, renamed)
