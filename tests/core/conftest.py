"""Fixtures that several test files of this folder use."""

from tests.core.pipeline_doubles import backend, scale

__all__ = ["backend", "scale"]
