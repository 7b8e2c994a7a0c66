"""What an algorithm is expected to do."""

from __future__ import annotations

from nncf_core.testing.algorithms.editing import EditTests
from nncf_core.testing.algorithms.parameters import ParameterTests

__all__ = ["AlgorithmConformance"]


class AlgorithmConformance(ParameterTests, EditTests):
    """Everything that is expected of an algorithm.

    A subclass sets :attr:`algorithm`, and may say in :meth:`sections` which config sections to try, and in
    :meth:`cases` on which models of the toy framework. It sets :attr:`plugin` when the algorithm is not
    installed. See :mod:`nncf_core.testing` for an example.
    """
