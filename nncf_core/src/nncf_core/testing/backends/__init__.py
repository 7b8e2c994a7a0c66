"""What a backend is expected to do, subject by subject."""

from __future__ import annotations

from nncf_core.testing.backends.branching import BranchingTests
from nncf_core.testing.backends.collecting import CollectingTests
from nncf_core.testing.backends.compressing import CompressingTests
from nncf_core.testing.backends.editing import EditingTests
from nncf_core.testing.backends.extracting import ExtractingTests
from nncf_core.testing.backends.files import FileTests
from nncf_core.testing.backends.quantizing import QuantizingTests
from nncf_core.testing.backends.reading import ReadingTests
from nncf_core.testing.backends.training import TrainingTests

__all__ = ["BackendConformance"]


class BackendConformance(
    ReadingTests,
    CompressingTests,
    EditingTests,
    BranchingTests,
    QuantizingTests,
    TrainingTests,
    ExtractingTests,
    CollectingTests,
    FileTests,
):
    """Everything that is expected of a backend.

    A subclass sets :attr:`framework`, and says what to test in :meth:`cases`. It may set :attr:`plugin` when
    the backend is not installed, :attr:`options` to test a variant, and :attr:`tolerance` when the framework
    computes outputs of a compressed model less exactly. See :mod:`nncf_core.testing` for an example.
    """
