"""Running commands as whole processes, and what the operating system says of them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from attrs import frozen


@frozen
class Measured:
    """One run of a command.

    :param wall: seconds.
    :param cpu: seconds of user and system time, of all threads.
    :param peak: largest resident set in bytes, pages of mapped files included; what the command itself printed, or
        what the system says, which is no less than this process had when it started the command.
    :param inner: seconds without start and imports that the command itself printed; 0 for none.
    """

    wall: float
    cpu: float
    peak: int
    inner: float = 0.0


@frozen
class Job:
    """A command that is measured, and the model that it makes, which is not there when it begins."""

    command: Sequence[str]
    output: Path | None = None


class Failed(SystemExit):
    """A command failed; says which, and the end of what it printed."""


def measure(command: Sequence[str]) -> Measured:
    """Run a command to its end. It may print, as its last line, its inner seconds, and after them its peak in bytes.

    :raises Failed: when it fails; where nobody catches it, the process ends and shows the output.
    """
    # as users have it: modules are compiled once, and not in every run
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # what the command before wrote is on the disk: nobody waits for another's pages
    os.sync()
    start = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise Failed(f"{' '.join(command)}\nfailed with status {child.returncode}:\n{output[-3000:]}")
    printed = re.fullmatch(r"(\d+(?:\.\d*)?)(?: (\d+))?", output.strip().rpartition("\n")[2])
    inner, peak = printed.groups() if printed else (0.0, None)
    return Measured(wall, usage.ru_utime + usage.ru_stime, int(peak or usage.ru_maxrss * 1024), float(inner))


def interleaved(jobs: dict[str, Job], runs: int) -> dict[str, list[Measured]]:
    """Runs of several jobs in turn, after one of each that is not counted: all see the same machine."""
    result: dict[str, list[Measured]] = {name: [] for name in jobs}
    for index in range(runs + 1):
        for name, job in jobs.items():
            print(f"run {index}/{runs}: {name}", file=sys.stderr, flush=True)
            if job.output is not None:
                for path in (job.output, job.output.with_suffix(".bin")):
                    path.unlink(missing_ok=True)
            done = measure(job.command)
            if index:
                result[name].append(done)
    return result


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, with minimum and maximum."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def machine() -> str:
    """The processor and the number of cores that may be used."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = lines[0] if lines else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {platform.system()}, Python {platform.python_version()}"
