"""Lock files: from what, with what and into what a model was compressed, so that it can be done again to the byte."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from attrs import Factory, asdict, define, frozen

from nncf_core.config.nncf_config import read_json
from nncf_core.dataset import Dataset
from nncf_core.errors import InvalidPathError, ValidationError
from nncf_core.files import write_text

T = TypeVar("T")

_VERSION = 1
_BLOCK = 1 << 20
_SHA256 = re.compile("[0-9a-f]{64}")


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
class Metric:
    """Where a metric came from, of a run that keeps one.

    :param function: ``module:function``, as the user named it.
    :param file: path of the file that defines the function.
    :param digest: SHA-256 of it.
    :param data: what the function is given.
    """

    function: str
    file: str
    digest: str
    data: Data


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
    :param metric: the metric that decided what was done; ``None``: there was none.
    """

    model: str
    inputs: Mapping[str, str]
    data: Data | None
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    output: str
    outputs: Mapping[str, str]
    verification: Mapping[str, Any] | None = None
    metric: Metric | None = None

    def text(self) -> str:
        """The content of a file."""
        return json.dumps({"nncf_lock": _VERSION, **asdict(self)}, indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Write a file.

        :raises InvalidPathError: when it cannot be written.
        """
        write_text(path, self.text())

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a file.

        :raises InvalidPathError: when there is none.
        :raises ValidationError: when it is no lock file, saying what is wrong with it.
        """
        data = read_json(path, "lock file")
        version = data.pop("nncf_lock", None)
        if version is None:
            raise ValidationError(f"{path} is no lock file of nncf: it has no key 'nncf_lock'; give OUTPUT.lock.json.")
        if version != _VERSION:
            raise ValidationError(
                f"{path} is a lock file of version {version!r}; this nncf reads version {_VERSION}: run it with the "
                "one that wrote it."
            )
        fields = _Fields(f"{path} is no lock file of nncf: ", data, "")
        found = cls(
            fields.text("model"),
            fields.digests("inputs"),
            fields.section("data", _data),
            fields.mapping("config"),
            fields.texts("versions"),
            fields.text("output"),
            fields.digests("outputs"),
            fields.optional("verification", fields.mapping),
            fields.section("metric", _metric),
        )
        fields.all_read()
        if Path(found.output).name not in found.outputs:
            raise ValidationError(f"{path} is no lock file of nncf: outputs has no digest of {found.output!r}.")
        return found

    def differences(self, other: Lock) -> list[str]:
        """What another run differs in, a sentence each."""
        pairs = [
            *_changed("the model file", self.inputs, other.inputs, "other bytes"),
            *_changed("the version of", self.versions, other.versions),
        ]
        pairs += _changed_data("the data file", "the function of the dataset", self.data, other.data)
        if self.metric is not None and other.metric is not None:
            mine, its = self.metric, other.metric
            if mine.digest != its.digest:
                pairs.append(f"the file {mine.file} of the function {mine.function} has other bytes")
            what = "the file of the validation data", "the function of the validation data"
            pairs += _changed_data(*what, mine.data, its.data)
        if dict(self.config) != dict(other.config):
            pairs.append("the config is another one")
        return pairs


@define
class _Fields:
    """Values of an object in a lock file, each of the type that it must have.

    :param prefix: what errors begin with.
    :param where: key of the object in the file.
    """

    prefix: str
    values: dict[str, Any]
    where: str
    _read: set[str] = Factory(set)

    def text(self, name: str) -> str:
        found = self._value(name, str)
        return str(found)

    def mapping(self, name: str) -> dict[str, Any]:
        found = self._value(name, dict)
        return dict(found)

    def texts(self, name: str) -> dict[str, str]:
        found = self.mapping(name)
        for key, value in found.items():
            if not isinstance(value, str):
                raise self._wrong(f"{name}.{key}", f"is {value!r}; it must be a text")
        return found

    def digests(self, name: str) -> dict[str, str]:
        found = self.texts(name)
        for key, value in found.items():
            if not _SHA256.fullmatch(value):
                raise self._wrong(f"{name}.{key}", f"is {value!r}; it must be a SHA-256 in 64 hexadecimal digits")
            if Path(key).name != key:
                raise self._wrong(f"{name}.{key}", "is no name of a file beside the model")
        return found

    def digest(self, name: str) -> str:
        value = self.text(name)
        if not _SHA256.fullmatch(value):
            raise self._wrong(name, f"is {value!r}; it must be a SHA-256 in 64 hexadecimal digits")
        return value

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        if self.values.get(name) is None:
            self._read.add(name)
            return None
        return read(name)

    def section(self, name: str, read: Callable[[_Fields], T]) -> T | None:
        def inner(name: str) -> T:
            fields = _Fields(self.prefix, self.mapping(name), f"{self.where}{name}.")
            found = read(fields)
            fields.all_read()
            return found

        return self.optional(name, inner)

    def all_read(self) -> None:
        unknown = sorted(self.values.keys() - self._read)
        if unknown:
            raise self._wrong(unknown[0], "is a key that lock files do not have")

    def _value(self, name: str, kind: type) -> Any:
        if name not in self.values:
            raise self._wrong(name, "is missing")
        self._read.add(name)
        if not isinstance(self.values[name], kind):
            word = "a text" if kind is str else "an object"
            raise self._wrong(name, f"is {self.values[name]!r}; it must be {word}")
        return self.values[name]

    def _wrong(self, name: str, text: str) -> ValidationError:
        return ValidationError(f"{self.prefix}{self.where}{name} {text}.")


def _data(fields: _Fields) -> Data:
    items = "" if not fields.values.get("items") else fields.digest("items")
    fields.optional("items", fields.text)
    return Data(fields.text("source"), fields.texts("options"), fields.digests("files"), items)


def _metric(fields: _Fields) -> Metric:
    data = fields.section("data", _data)
    if data is None:
        raise fields._wrong("data", "is missing")
    return Metric(fields.text("function"), fields.text("file"), fields.digest("digest"), data)


def _changed(what: str, old: Mapping[str, str], new: Mapping[str, str], how: str = "") -> Iterator[str]:
    if how and [old[name] for name in sorted(old)] == [new[name] for name in sorted(new)]:
        return  # files of other names, with the same bytes in the same order
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"{what} {name} is missing"
        elif name not in old:
            yield f"{what} {name} is new"
        elif old[name] != new[name]:
            yield f"{what} {name} has {how}" if how else f"{what} {name} was {old[name]}, it is {new[name]}"


def _changed_data(file: str, function: str, old: Data | None, new: Data | None) -> Iterator[str]:
    mine, its = ({} if data is None else data.files for data in (old, new))
    yield from _changed(file, mine, its, "other bytes")
    if old is not None and new is not None and old.items and old.items != new.items:
        yield f"{function} gives other items"


def digests_of(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, by their names.

    :raises InvalidPathError: when one is missing.
    """
    return {path.name: digest_of_file(path) for path in paths}


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file.

    :raises InvalidPathError: when it cannot be read.
    """
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except OSError as error:
        raise InvalidPathError(
            f"Cannot read {path}: {error.strerror or error}; correct its name or its rights."
        ) from None
    return found.hexdigest()


def data_of(source: str, options: Mapping[str, str], seen: Witness | None) -> Data:
    """Where a dataset came from: digests of its files, or else of the items that were seen."""
    path = Path(source)
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.is_file())
        return Data(source, dict(options), digests_of(files))
    if path.is_file():
        return Data(source, dict(options), digests_of([path]))
    return Data(source, dict(options), {}, "" if seen is None else seen.digest())


class Witness(Dataset[Any, Any]):
    """A dataset that remembers digests of the inputs that it gave."""

    def __init__(self, dataset: Dataset[Any, Any]) -> None:
        super().__init__(dataset._original, dataset._transform)
        self._seen: dict[int, str] = {}

    def get_inference_data(self, indices: list[int] | None = None) -> Iterable[Any]:
        """The model's inputs, as of any dataset."""
        return _Watched(super().get_inference_data(indices), indices, self._seen)

    def get_data(self, indices: list[int] | None = None) -> Iterable[Any]:
        """Items as the source gives them, as of any dataset."""
        return _Watched(super().get_data(indices), indices, self._seen)

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
