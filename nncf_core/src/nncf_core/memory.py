"""Memory that is free: of the system, within limits of the process and of its control groups, which containers have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attrs import frozen

_GROUPS = Path("/sys/fs/cgroup")

_SAID = (
    "Cannot allocate memory", "Could not allocate memory", "Failed to allocate", "bad_alloc", "can't allocate memory",
    "out of memory", "can't start new thread", "Resource temporarily unavailable",
    "failed to map segment from shared object",
)  # fmt: skip
"""What systems, runtimes and Python say where memory does not do; threads need some, too."""


def is_of_memory(error: BaseException) -> bool:
    """Whether an error comes of too little memory: runtimes have errors of their own for that."""
    if isinstance(error, SystemError):
        # of code in C that does not say what failed, which under a limit is what it allocates
        return _limit() < float("inf")
    if isinstance(error, BlockingIOError):
        return False  # it says the same of pipes
    return isinstance(error, MemoryError) or any(text in str(error) for text in _SAID)


def memory_error_behind(error: BaseException) -> BaseException | None:
    """The error of too little memory that another one comes of, or is; ``None``: there is none."""
    seen = set[int]()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if is_of_memory(found):
            return found
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return None


def free_memory() -> float:
    """Bytes of memory that the system could give; infinite where it does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return float("inf")
    with suppress(OSError):  # of systems without groups
        free = min(free, left_by_groups(Path("/proc/self/cgroup").read_text()))
    return min(free, _limit())


def _limit() -> float:
    """What limits of the process leave, where there are some."""
    try:
        import resource
    except ImportError:
        return float("inf")
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    finite = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    if not finite:
        return float("inf")
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    return max(min(finite) - used, 0)


@frozen
class _Files:
    """Where a version of control groups keeps its figures.

    :param folder: below which its groups are.
    :param cache: key of what is cached of files and can be dropped, in ``memory.stat``.
    """

    folder: Path
    limit: str
    used: str
    cache: str


def left_by_groups(groups: str, root: Path = _GROUPS) -> float:
    """Bytes that the control groups of a process leave it; infinite where none has a limit.

    :param groups: the groups, as ``/proc/self/cgroup`` has them.
    :param root: where their files are.
    """
    return min((_left(folder, files) for files, folder in _folders(groups, root)), default=float("inf"))


def _folders(groups: str, root: Path) -> Iterator[tuple[_Files, Path]]:
    """A group's folder and those of the groups that it is in; a container sees the last of them only."""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files = _Files(root, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            files = _Files(root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = files.folder / path.lstrip("/")
        yield files, folder
        yield from ((files, each) for each in folder.parents if each.is_relative_to(files.folder))


def _left(folder: Path, files: _Files) -> float:
    try:
        limit, used = (int((folder / name).read_text()) for name in (files.limit, files.used))
        lines = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # there is no such group, or no limit: "max"
        return float("inf")
    return max(limit - used + int(lines.get(files.cache, 0)), 0)
