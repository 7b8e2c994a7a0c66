"""Which modules a piece of code imports, seen in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable

from nncf_core.catalogue import FRAMEWORKS
from nncf_core.testing.suite import ConformanceError

FRAMEWORK_MODULES = frozenset(module for info in FRAMEWORKS.values() for module in info.modules) | {
    "onnxruntime",
    "tensorflow",
    "jax",
}
"""Top-level modules of the frameworks that are known."""


def imported_by(code: str) -> frozenset[str]:
    """Top-level modules that are loaded after running some code in a fresh interpreter.

    :raises ConformanceError: when the code fails there.
    """
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ConformanceError(f"In a fresh interpreter this fails:\n{code}\n{done.stderr.strip()}")
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def frameworks_imported_by(code: str, more: Iterable[str] = ()) -> list[str]:
    """Frameworks among what :func:`imported_by` finds.

    :param more: top-level modules of further frameworks.
    """
    return sorted(imported_by(code) & (FRAMEWORK_MODULES | set(more)))
