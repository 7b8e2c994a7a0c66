"""Lock files: from what, with what and into what a model was compressed, so that it can be done again to the byte."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, evolve, frozen

from nncf_core.dataset import Dataset
from nncf_core.errors import InvalidPathError, ValidationError
from nncf_core.files import replacing

_VERSION = 1
_BLOCK = 1 << 20


@frozen
class Data:
    """Where a dataset came from.

    :param source: as the user named it, see :func:`~nncf_core.dataset_files.read_dataset`.
    :param options: as the user gave them.
    :param files: digests of its files; none of a function.
    :param items: digest of the items that were used, of a function.
    """

    source: str
    options: Mapping[str, str]
    files: Mapping[str, str]
    items: str = ""


@frozen
class Lock:
    """What it takes to do a run again. Paths are relative to the folder of the lock file.

    The bytes of a result depend neither on threads nor on time: random numbers are drawn from seeds that are fixed, or
    stand in the config.

    :param model: path of the model.
    :param inputs: digests (SHA-256) of its files by their names.
    :param data: the dataset; ``None``: none was given.
    :param config: what was done.
    :param versions: of what took part.
    :param output: path of what was written.
    :param outputs: digests of its files by their names.
    :param verification: what was found when it was verified; ``None``: it was not.
    """

    model: str
    inputs: Mapping[str, str]
    data: Data | None
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    output: str
    outputs: Mapping[str, str]
    verification: Mapping[str, Any] | None = None

    def write(self, path: Path) -> None:
        """Write a file.

        :raises InvalidPathError: when it cannot be written.
        """
        text = json.dumps({"nncf_lock": _VERSION, **asdict(self)}, indent=1)
        try:
            with replacing(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InvalidPathError(f"Cannot write {path}: {error.strerror or error}.") from None

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a file.

        :raises InvalidPathError: when there is none.
        :raises ValidationError: when it is no lock file.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("nncf_lock") != _VERSION:
                raise ValidationError(f"{path} is a lock file of another version; this is version {_VERSION}.")
            found = cls(**data)
            return found if found.data is None else evolve(found, data=Data(**data["data"]))
        except OSError as error:
            raise InvalidPathError(f"Cannot read {path}: {error.strerror or error}.") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ValidationError):
                raise
            raise ValidationError(f"{path} is no lock file of nncf: {error}.") from None

    def differences(self, other: Lock) -> list[str]:
        """What another run differs in, a sentence each."""
        pairs = [
            *_changed("the model file", self.inputs, other.inputs, "other bytes"),
            *_changed("the version of", self.versions, other.versions),
        ]
        mine, its = (({}, "") if lock.data is None else (lock.data.files, lock.data.items) for lock in (self, other))
        pairs += _changed("the data file", mine[0], its[0], "other bytes")
        if mine[1] and mine[1] != its[1]:
            pairs.append("the function of the dataset gives other items")
        if dict(self.config) != dict(other.config):
            pairs.append("the config is another one")
        return pairs


def _changed(what: str, old: Mapping[str, str], new: Mapping[str, str], how: str = "") -> Iterator[str]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"{what} {name} is missing"
        elif name not in old:
            yield f"{what} {name} is new"
        elif old[name] != new[name]:
            yield f"{what} {name} has {how}" if how else f"{what} {name} was {old[name]}, it is {new[name]}"


def digests_of(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, by their names.

    :raises InvalidPathError: when one is missing.
    """
    return {path.name: _digest(path) for path in paths}


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except OSError as error:
        raise InvalidPathError(f"Cannot read {path}: {error.strerror or error}.") from None
    return found.hexdigest()


def data_of(source: str, options: Mapping[str, str], seen: Witness) -> Data:
    """Where a dataset came from: digests of its files, or else of the items that were seen."""
    path = Path(source)
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.is_file())
        return Data(source, dict(options), digests_of(files))
    if path.is_file():
        return Data(source, dict(options), digests_of([path]))
    return Data(source, dict(options), {}, seen.digest())


class Witness(Dataset[Any, Any]):
    """A dataset that remembers digests of the inputs that it gave."""

    def __init__(self, dataset: Dataset[Any, Any]) -> None:
        super().__init__(dataset._original, dataset._transform)
        self._seen: dict[int, str] = {}

    def get_inference_data(self, indices: list[int] | None = None) -> Iterable[Any]:
        """The model's inputs, as of any dataset."""
        return _Watched(super().get_inference_data(indices), indices, self._seen)

    def digest(self) -> str:
        """One digest of all inputs that were given, in the order of their indices."""
        found = hashlib.sha256()
        for index in sorted(self._seen):
            found.update(f"{index} {self._seen[index]}\n".encode())
        return found.hexdigest()


@frozen
class _Watched:
    items: Iterable[Any]
    indices: list[int] | None
    seen: dict[int, str]

    def __iter__(self) -> Iterator[Any]:
        for position, item in enumerate(self.items):
            index = position if self.indices is None else self.indices[position]
            if index not in self.seen:
                self.seen[index] = _digest_of(item)
            yield item


def _digest_of(item: Any) -> str:
    found = hashlib.sha256()
    if isinstance(item, Mapping):
        for name in sorted(item, key=str):
            found.update(f"{name}={_digest_of(item[name])}".encode())
    elif isinstance(item, (tuple, list)):
        for each in item:
            found.update(_digest_of(each).encode())
    else:
        array = np.ascontiguousarray(item)
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def relative(path: Path, folder: Path) -> str:
    """A path as a lock file in a folder names it."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()
