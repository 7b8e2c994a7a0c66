"""NNCFConfig: what a run is assembled from."""

from nncf_core.config.nncf_config import NNCFConfig

__all__ = ["NNCFConfig"]
