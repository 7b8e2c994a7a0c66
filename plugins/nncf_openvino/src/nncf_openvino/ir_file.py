"""What can be told of an IR file before OpenVINO reads it: whether it is whole, and where constants lie."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from nncf_core.errors import InvalidPathError, UnsupportedModelError, UnsupportedVersionError

_OLDEST = 10


class StoredConstant(NamedTuple):
    """A constant of an IR file.

    :param offset: where it begins in the .bin file.
    :param size: its bytes.
    """

    name: str
    offset: int
    size: int


def weights_path(path: Path) -> Path:
    """The .bin file of an .xml file.

    :raises InvalidPathError: when it is a link that leads out of the folders of the .xml file and what that links to.
    """
    found = path.with_suffix(".bin")
    if found.is_symlink():
        target = found.resolve()
        if target.parent not in (path.parent.resolve(), path.resolve().parent):
            raise InvalidPathError(
                f"{found} leads to {target}, outside of the model's folder; copy both files to one folder."
            )
    return found


def stored_constants(path: Path) -> list[StoredConstant]:
    """The constants of an .xml file, whose structure is looked at on the way.

    :raises InvalidPathError: when there is no such file.
    :raises UnsupportedModelError: when it is no IR file.
    :raises UnsupportedVersionError: when its version is not supported.
    """
    if not path.is_file():
        raise InvalidPathError(f"There is no model file {path}." if not path.exists() else f"{path} is not a file.")
    scanner = _Scanner(path)
    try:
        with path.open("rb") as file:
            scanner.parser.ParseFile(file)
    except expat.ExpatError as error:
        raise UnsupportedModelError(f"Cannot read {path}: it is not valid XML ({error}).") from None
    except OSError as error:
        raise InvalidPathError(f"Cannot read {path}: {error.strerror}.") from None
    return scanner.constants


class _Scanner:
    """Collects constants from the events of a parser that knows no entities."""

    def __init__(self, path: Path) -> None:
        self.constants: list[StoredConstant] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.StartDoctypeDeclHandler = self._doctype
        self._path = path
        self._depth = 0
        self._constant: str | None = None
        self._root = True

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._root:
            self._check_root(tag, attributes)
            self._root = False
        if tag == "layer":
            self._constant = attributes.get("name", "") if attributes.get("type") == "Const" else None
        elif tag == "data" and self._constant is not None:
            self.constants.append(
                StoredConstant(self._constant, self._number(attributes, "offset"), self._number(attributes, "size"))
            )
            self._constant = None

    def _check_root(self, tag: str, attributes: dict[str, str]) -> None:
        if tag != "net":
            raise UnsupportedModelError(
                f"{self._path} is no OpenVINO model: its root element is {tag!r}, not 'net'; give the .xml file that "
                "openvino.save_model wrote."
            )
        version = attributes.get("version", "")
        if not version.isdigit():
            raise UnsupportedModelError(f"{self._path} is no OpenVINO model: its version is {version!r}, not a number.")
        if int(version) < _OLDEST:
            raise UnsupportedVersionError(
                f"{self._path} has IR version {version}; {_OLDEST} or later is needed. Convert the model again."
            )

    def _number(self, attributes: dict[str, str], key: str) -> int:
        text = attributes.get(key, "")
        if not text.isdigit():
            raise UnsupportedModelError(
                f"In {self._path} the constant {self._constant!r} has the {key} {text!r}, which is no number of bytes; "
                "convert the model again."
            )
        return int(text)

    def _doctype(self, *_: object) -> None:
        raise UnsupportedModelError(f"Cannot read {self._path}: an OpenVINO model has no document type declaration.")
