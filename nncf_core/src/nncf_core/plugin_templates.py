"""New plugins: packages that work, to be changed into what their authors have in mind."""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from nncf_core.errors import InvalidPathError, ValidationError
from nncf_core.files import unwritable

KINDS: Mapping[str, str] = {
    "algorithm": "a compression algorithm, which runs on every backend",
    "backend": "a backend, on which every algorithm runs",
    "strip-format": "a form that nncf.strip brings models into",
}
"""What plugins can bring, and what that is."""

_SUFFIX = ".tmpl"


def write_plugin(kind: str, name: str, parent: Path) -> Path:
    """Write a package that brings a plugin, with tests that it passes.

    :param kind: one of :data:`KINDS`.
    :param name: of the distribution and its folder, such as ``my-algo``; the Python package, the entry point and what
        the plugin provides have the same name with ``_``.
    :param parent: folder that the new folder lies in.
    :return: the new folder.
    :raises ValidationError: when the name is not one, or an installed plugin provides it already.
    :raises InvalidPathError: when the folder exists, or cannot be made.
    """
    package = _checked(kind, name)
    folder = parent / name
    words = {
        "PACKAGE": package,
        "DISTRIBUTION": name,
        "FRAMEWORK": package,
        "TITLE": name.replace("-", " ").capitalize(),
        "CLASS": "".join(word.capitalize() for word in name.split("-")),
    }
    try:
        folder.mkdir(parents=True)
        for path, text in _filled(files("nncf_core") / "templates" / kind.replace("-", "_"), words):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except FileExistsError:
        raise InvalidPathError(f"{folder} exists already; choose another name, or another folder.") from None
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder


def _checked(kind: str, name: str) -> str:
    if kind not in KINDS:
        raise ValidationError(f"There is no kind of plugin {kind!r}; there are {', '.join(KINDS)}.")
    package = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(package):
        raise ValidationError(
            f"{name!r} cannot be the name of a plugin: use lower-case letters and digits, with hyphens between words, "
            "such as my-algo."
        )
    from nncf_core.registry import registry

    known = registry()
    taken = {"algorithm": known.algorithms, "backend": known.backends, "strip-format": known.strip_formats}[kind]
    if package in taken:
        raise ValidationError(f"An installed plugin provides the {kind} {package!r} already; choose another name.")
    if importlib.util.find_spec(package) is not None:
        raise ValidationError(
            f"There is a Python package {package!r} already, which this would hide; choose another name."
        )
    return package


def _filled(folder: Traversable, words: Mapping[str, str], inside: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of each file, with words in place of what stands for them."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{inside}{_replaced(entry.name, words)}"
        if entry.is_dir():
            yield from _filled(entry, words, f"{path}/")
        elif path.endswith(_SUFFIX):
            yield path.removesuffix(_SUFFIX), _replaced(entry.read_text(encoding="utf-8"), words)


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for placeholder, word in words.items():
        text = text.replace(placeholder, word)
    return text
