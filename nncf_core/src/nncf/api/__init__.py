"""The API of compression algorithms."""

from typing import TYPE_CHECKING

from nncf_core.lazy import lazy_module

if TYPE_CHECKING:
    from nncf.api import compression as compression
    from nncf.api import statistics as statistics

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(__name__, submodules=("compression", "statistics"))
