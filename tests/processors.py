"""What the processor that tests run on can do."""

from __future__ import annotations

from pathlib import Path


def has_vnni() -> bool:
    """Whether it has dot products of 8-bit integers (VNNI), as Linux tells; elsewhere: yes."""
    info = Path("/proc/cpuinfo")
    return not info.exists() or any(flag in info.read_text() for flag in ("avx512_vnni", "avx_vnni", "asimddp"))
