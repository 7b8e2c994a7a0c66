"""NNCF's own helpers, of which none was documented."""

from typing import TYPE_CHECKING

from nncf_core.lazy import left_out

if not TYPE_CHECKING:
    __getattr__ = left_out(
        __name__, "it was not documented; str(nncf_core.report.describe_model(nncf.build_graph(model))) is a table"
    )
