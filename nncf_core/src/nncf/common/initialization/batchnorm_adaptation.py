"""Means and variances of normalization, of a model whose weights were changed."""

from typing import TYPE_CHECKING

from nncf_core.lazy import plugin_module

if not TYPE_CHECKING:
    __getattr__, __dir__ = plugin_module(__name__, "nncf_torch.batch_norm_adaptation", "nncf-torch")
