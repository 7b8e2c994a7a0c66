"""Versions of what takes part in a run: plugins, their frameworks, and what computes the codes."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterable

from nncf_core import __version__
from nncf_core.registry import Registry

_CORE = ("ml_dtypes", "numpy")
"""What the core computes with. What it talks to people with changes no result."""


def versions_of(known: Registry, framework: str, algorithms: Iterable[str]) -> dict[str, str]:
    """Versions by distribution, of those that are installed.

    :param framework: name of the backend.
    :param algorithms: names of the algorithms that ran.
    """
    parts = ("graph builder", "target-point inserter", "statistics aggregator")
    wanted = {f"{part} {framework}" for part in parts} | {f"algorithm {name}" for name in algorithms}
    plugins = {record.distribution for record in known.records if wanted & set(record.registers)}
    plugins -= {"", "nncf-core"}
    found = dict(filter(None, map(_version, {*plugins, *_CORE, *_required(plugins)})))
    return {"python": platform.python_version(), "nncf-core": __version__, **dict(sorted(found.items()))}


def _required(distributions: Iterable[str]) -> set[str]:
    """What distributions need, but for extras and each other's core."""
    texts = [text for name in distributions for text in importlib.metadata.requires(name) or ()]
    names = {re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in texts if "extra ==" not in text}
    return names - {"nncf-core", "attrs"}


def _version(name: str) -> tuple[str, str] | None:
    """Name, as the distribution itself writes it, and version."""
    try:
        metadata = importlib.metadata.metadata(name)
        return metadata["Name"], metadata["Version"]
    except importlib.metadata.PackageNotFoundError:
        return None
