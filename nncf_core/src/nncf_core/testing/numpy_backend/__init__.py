"""A small but complete backend in pure numpy, to check algorithms without any framework.

Its models, :class:`NumpyModel`, are lists of a few kinds of operators. :mod:`.plugin` is the plugin; it is not
an installed one, so that no user meets it by accident::

    from nncf_core.registry import registry
    from nncf_core.testing.numpy_backend import plugin

    registry().register(plugin, "numpy")

A third party's backend has the same parts: read :mod:`.builder`, :mod:`.inserter` and :mod:`.aggregator`.
"""

from nncf_core.testing.numpy_backend.model import Input, NumpyModel, Operation

__all__ = ["Input", "NumpyModel", "Operation"]
