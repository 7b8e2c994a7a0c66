"""Entry point of the plugin."""

from __future__ import annotations

from collections.abc import Iterable

from nncf_core.contracts import Algorithm
from nncf_core.hookspecs import hookimpl

NNCF_HOOK_API = 1


@hookimpl
def nncf_algorithms() -> Iterable[Algorithm]:
    """Constant sparsity."""
    from nncf_const_sparsity.algorithm import ConstSparsity

    return [ConstSparsity()]
