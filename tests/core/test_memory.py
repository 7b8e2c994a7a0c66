"""What limits leave of the memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nncf_core.errors import UnsupportedModelError
from nncf_core.memory import free_memory, is_of_memory, left_by_groups, memory_error_behind

V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def group(folder: Path, names: tuple[str, str, str], limit: str, used: int, cached: int) -> None:
    """The files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")


@pytest.mark.parametrize(("names", "line", "start"), [(V1, "4:cpu,memory:", "memory"), (V2, "0::", "")])
def test_groups(names: tuple[str, str, str], line: str, start: str, tmp_path: Path) -> None:
    lines = f"9:name=systemd:/elsewhere\n{line}/outer/inner\n"
    assert left_by_groups(lines, tmp_path) == float("inf")
    unlimited = {V1: str(2**63 - 4096), V2: "max"}[names]
    group(tmp_path / start / "outer/inner", names, unlimited, 700, 100)
    assert left_by_groups(lines, tmp_path) > 2**60
    group(tmp_path / start / "outer", names, "1000", 900, 300)
    assert left_by_groups(lines, tmp_path) == 400
    group(tmp_path / start / "outer/inner", names, "800", 700, 100)
    assert left_by_groups(lines, tmp_path) == 200
    group(tmp_path / start / "outer/inner", names, "600", 700, 0)
    assert left_by_groups(lines, tmp_path) == 0


@pytest.mark.parametrize(("names", "line", "start"), [(V1, "4:memory:", "memory"), (V2, "0::", "")])
def test_a_container_sees_its_own_group_at_the_root(
    names: tuple[str, str, str], line: str, start: str, tmp_path: Path
) -> None:
    group(tmp_path / start, names, "1000", 300, 50)
    assert left_by_groups(f"{line}/docker/0123", tmp_path) == 750


def test_limits_of_the_process() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (300 << 20,) * 2)\n"
        "from nncf_core.memory import free_memory; print(free_memory())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0 < float(shown) < 300 << 20
    assert free_memory() > 0


def test_what_other_errors_come_of() -> None:
    cause = RuntimeError("Failed to allocate 67108864 bytes of memory")

    def read() -> None:
        try:
            raise cause
        except RuntimeError:
            raise UnsupportedModelError("the model is not readable") from None

    with pytest.raises(UnsupportedModelError) as caught:
        read()
    assert memory_error_behind(caught.value) is cause
    assert memory_error_behind(UnsupportedModelError("the model is not readable")) is None
    assert not is_of_memory(BlockingIOError(11, "Resource temporarily unavailable"))


def test_faults_in_c_are_of_memory_under_a_limit_alone() -> None:
    code = (
        "import resource; from nncf_core.memory import is_of_memory\n"
        "error = SystemError('error return without exception set')\n"
        "before = is_of_memory(error); resource.setrlimit(resource.RLIMIT_DATA, (300 << 20,) * 2)\n"
        "print(before, is_of_memory(error))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "True"]
