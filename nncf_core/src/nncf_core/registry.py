"""Installed plugins and what they provide.

Rule for conflicts: where two plugins provide the same name, the one whose hook is marked ``tryfirst`` wins;
otherwise the one whose distribution, then entry point, comes first in alphabetical order. The core's own
providers come last. :func:`Registry.records` shows who was shadowed by whom.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pluggy
from attrs import define, field, frozen

from nncf_core import __version__, contracts, hookspecs
from nncf_core.catalogue import FRAMEWORKS, REMEDIES, framework_of, framework_of_suffix
from nncf_core.errors import PluginError, UnsupportedBackendError
from nncf_core.log import nncf_logger

_HOOKS: Mapping[str, tuple[str, type, str]] = {
    # hook: (what it registers, protocol, attribute that names a provider)
    "nncf_graph_builders": ("graph builder", contracts.GraphBuilder, "framework"),
    "nncf_target_point_inserters": ("target-point inserter", contracts.TargetPointInserter, "framework"),
    "nncf_statistics_aggregators": ("statistics aggregator", contracts.StatisticsAggregator, "framework"),
    "nncf_algorithms": ("algorithm", contracts.Algorithm, "name"),
    "nncf_strip_formats": ("strip format", contracts.StripFormat, "name"),
}

LOAD_PLUGINS = "NNCF_LOAD_PLUGINS"
"""Environment variable: a comma-separated list of entry-point names; only those are loaded."""


@define
class PluginRecord:
    """What is known of one plugin.

    :param name: name of its entry point, or the name it was registered under.
    :param distribution: installed distribution that brings it, ``""`` when registered by a script.
    :param version: that distribution's version.
    :param target: module that the entry point names.
    :param registers: what it provides, e.g. ``algorithm weight_compression``.
    :param shadowed: what it provides but another plugin's provider is used instead, with that plugin's name.
    :param error: why it, or one of its hooks, failed; ``None`` when all is well.
    """

    name: str
    distribution: str = ""
    version: str = ""
    target: str = ""
    registers: list[str] = field(factory=list)
    shadowed: list[str] = field(factory=list)
    error: str | None = None


@frozen
class Backend:
    """What the core assembles for one framework from three hooks."""

    framework: str
    builder: contracts.GraphBuilder
    inserter: contracts.TargetPointInserter
    aggregator: contracts.StatisticsAggregator | None


class Registry:
    """Plugins and their providers. Use :func:`registry` for the one that holds the installed plugins."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._records: dict[str, PluginRecord] = {}
        self._providers: dict[str, dict[str, Any]] | None = None

    def load_installed(self) -> None:
        """Load every plugin with an entry point of group ``nncf``; a broken one breaks no other."""
        chosen = os.environ.get(LOAD_PLUGINS)
        wanted = None if chosen is None else {name.strip() for name in chosen.split(",") if name.strip()}
        points = importlib.metadata.entry_points(group=hookspecs.PROJECT)
        unknown = sorted((wanted or set()) - {point.name for point in points})
        if unknown:
            installed = ", ".join(sorted(point.name for point in points)) or "none"
            nncf_logger.warning("%s names no plugin: %s; installed: %s.", LOAD_PLUGINS, ", ".join(unknown), installed)
        # pluggy calls the plugin registered last first
        for point in sorted(points, key=lambda p: (p.dist.name if p.dist else "", p.name), reverse=True):
            if wanted is not None and point.name not in wanted:
                continue
            dist, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
            record = PluginRecord(point.name, dist, version, point.value)
            try:
                plugin = point.load()
            except (Exception, SystemExit) as error:
                record.error = f"{type(error).__name__}: {error}"
                self._records.setdefault(record.name, record)
            else:
                self._add(plugin, record)

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin from a script: a module or object with hook implementations.

        :raises PluginError: when it breaks the contract.
        """
        record = PluginRecord(str(name or getattr(plugin, "__name__", type(plugin).__name__)))
        self._add(plugin, record)
        if record.error:
            del self._records[record.name]
            raise PluginError(f"Plugin {record.name!r}: {record.error}")

    def unregister(self, name: str) -> None:
        """Remove a plugin that was registered under this name."""
        self._manager.unregister(name=name)
        self._records.pop(name, None)
        self._providers = None

    def _add(self, plugin: object, record: PluginRecord) -> None:
        if record.name in self._records:
            # two distributions with one entry-point name: both are shown
            record.name = f"{record.name} ({record.distribution or 'script'})"
        self._records[record.name] = record
        self._providers = None
        stated = getattr(plugin, "NNCF_HOOK_API", None)
        if stated != hookspecs.HOOK_API:
            record.error = (
                "states no hook API version; set NNCF_HOOK_API in the plugin module"
                if stated is None
                else f"is written for hook API {stated}; nncf-core {__version__} has hook API "
                f"{hookspecs.HOOK_API}: install a matching version of one of them"
            )
            return
        try:
            self._manager.register(plugin, record.name)
            hooks = [name for name in dir(plugin) if name.startswith("nncf_")]
            unknown = [n for n in hooks if n not in _HOOKS and callable(getattr(plugin, n))]
            if unknown:
                raise PluginError(f"implements unknown hooks {', '.join(unknown)}; known: {', '.join(_HOOKS)}")
        except Exception as error:
            record.error = f"{type(error).__name__}: {error}"
            # pluggy keeps the hooks that it took before it met the wrong one
            if self._manager.get_plugin(record.name) is plugin:
                self._manager.unregister(plugin)

    def _collect(self) -> dict[str, dict[str, Any]]:
        if self._providers is None:
            for record in self._records.values():
                record.registers, record.shadowed = [], []
            self._providers = {hook: self._collect_hook(hook) for hook in _HOOKS}
        return self._providers

    def _collect_hook(self, hook: str) -> dict[str, Any]:
        what, protocol, attribute = _HOOKS[hook]
        found: dict[str, Any] = {}
        owner: dict[str, str] = {}
        for implementation in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            record = self._records[implementation.plugin_name]
            try:
                provided = list(implementation.function())
                for item in provided:
                    _check_protocol(item, protocol, what)
            except (Exception, SystemExit) as error:
                record.error = f"hook {hook}: {type(error).__name__}: {error}"
                continue
            for item in provided:
                name = str(getattr(item, attribute))
                if name in found:
                    record.shadowed.append(f"{what} {name} (by {owner[name]})")
                else:
                    found[name], owner[name] = item, record.name
                    record.registers.append(f"{what} {name}")
        return found

    @property
    def records(self) -> tuple[PluginRecord, ...]:
        """All plugins, loaded or not, sorted by name."""
        self._collect()
        return tuple(sorted(self._records.values(), key=lambda record: record.name))

    @property
    def drop_in(self) -> bool:
        """Whether an installed plugin states ``NNCF_DROP_IN = True``: scripts may count on what nncf 3 does, and this
        project does otherwise on purpose."""
        return any(getattr(plugin, "NNCF_DROP_IN", False) for plugin in self._manager.get_plugins())

    @property
    def algorithms(self) -> Mapping[str, contracts.Algorithm]:
        """Algorithms by name."""
        return self._collect()["nncf_algorithms"]

    @property
    def strip_formats(self) -> Mapping[str, contracts.StripFormat]:
        """Strip formats by name."""
        return self._collect()["nncf_strip_formats"]

    @property
    def backends(self) -> Mapping[str, Backend]:
        """Complete backends (a builder and an inserter at least) by framework."""
        providers = self._collect()
        inserters = providers["nncf_target_point_inserters"]
        aggregators = providers["nncf_statistics_aggregators"]
        return {
            name: Backend(name, builder, inserters[name], aggregators.get(name))
            for name, builder in providers["nncf_graph_builders"].items()
            if name in inserters
        }

    def backend_for(self, source: object) -> Backend:
        """The backend for a model, or for the path of a model file.

        :raises UnsupportedBackendError: when no installed backend takes it; the message names the package
            that would, where it is known.
        """
        takes: Callable[[contracts.GraphBuilder], bool]
        if isinstance(source, (str, Path)):
            suffix = Path(source).suffix.lower()
            what = (
                f"folders ({source}); name a file"
                if Path(source).is_dir()
                else f"files with suffix {suffix!r} ({source})"
            )
            known = framework_of_suffix(suffix)
            takes = lambda builder: suffix in builder.suffixes  # noqa: E731
        else:
            suffix, what = "", f"models of type {type(source).__module__}.{type(source).__qualname__}"
            known = framework_of(source)
            takes = lambda builder: _accepts(builder, source)  # noqa: E731
        for backend in self.backends.values():
            if takes(backend.builder):
                return backend
        more = f" {REMEDIES[suffix]}" if suffix in REMEDIES else ""
        raise UnsupportedBackendError(f"No installed backend reads {what}. {self._remedy(known)}{more}")

    def _remedy(self, known: str | None) -> str:
        if known is not None and known not in self.backends:
            info = FRAMEWORKS[known]
            record = next((r for r in self.records if r.distribution == info.distribution), None)
            if record is None:
                return f"Install the {info.title} backend: pip install {info.distribution}"
            if record.error:
                return f"{info.distribution} is installed but failed: {record.error}"
            return f"{info.distribution} {record.version} is installed but does not provide a {info.title} backend yet."
        read = (f"{b.builder.title} ({', '.join(sorted(b.builder.suffixes))})" for b in self.backends.values())
        return f"Installed backends: {', '.join(read) or 'none'}."


def _accepts(builder: contracts.GraphBuilder, model: object) -> bool:
    """What a builder answers; one that fails on other frameworks' models hides no other backend."""
    try:
        return builder.accepts(model)
    except Exception as error:
        nncf_logger.warning("The %s backend failed to look at a model: %r", builder.title, error)
        return False


def _check_protocol(item: object, protocol: type, what: str) -> None:
    if isinstance(item, protocol):
        return
    members = list(getattr(protocol, "__protocol_attrs__", None) or _members(protocol))
    missing = sorted(m for m in members if not hasattr(item, m))
    raise PluginError(f"{item!r} is no {what}: it lacks {', '.join(missing)}")


def _members(protocol: type) -> Iterable[str]:
    # before Python 3.12 protocols do not list their members
    return {*protocol.__annotations__, *(n for n in vars(protocol) if not n.startswith("_"))}


@cache
def registry() -> Registry:
    """The registry of this process, with all installed plugins loaded."""
    result = Registry()
    from nncf_core import strip_formats

    result._add(strip_formats, PluginRecord("core", "nncf-core", __version__, strip_formats.__name__))
    result.load_installed()
    return result
