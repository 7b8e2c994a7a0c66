"""Graphs in files that Netron shows."""

from nncf_core.netron import save_for_netron

__all__ = ["save_for_netron"]
