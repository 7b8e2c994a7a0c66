"""Names of keys."""

from nncf_core.dataset import RESET_STATE as NNCF_DATASET_RESET_STATE_KEY

__all__ = ["NNCF_DATASET_RESET_STATE_KEY"]
