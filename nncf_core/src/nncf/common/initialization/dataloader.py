"""A loader of initialisation data."""

from nncf_core.training.dataloader import NNCFDataLoader

__all__ = ["NNCFDataLoader"]
