"""Every error that the framework raises on purpose; all of them are an :class:`NNCFError`."""

from __future__ import annotations

from typing import Any


class NNCFError(Exception):
    """Base of all errors raised on purpose: the message says what is wrong, where, and what to do."""


class ValidationError(NNCFError, ValueError):
    """An argument, a configuration or an ignored scope is not acceptable."""


class NotFiniteError(ValidationError):
    """Activations hold NaN or infinite numbers where finite ones are needed."""


class InternalError(NNCFError, RuntimeError):
    """A promise that the framework makes to itself does not hold."""


class ValidationFunctionError(NNCFError, RuntimeError):
    """The user's validation function fails, or what it gives cannot be used, or a model or data for it fail.

    :param best_model: the best model so far, of the kind that was given.
    :param best_metric: its metric; ``None`` where nothing was validated yet, and ``best_model`` is all quantized.
    """

    def __init__(self, message: str, best_model: Any = None, best_metric: float | None = None) -> None:
        super().__init__(message)
        self.best_model = best_model
        self.best_metric = best_metric


class UnsupportedDatasetError(NNCFError, TypeError):
    """A dataset cannot be used in the way that was asked for."""


class UnknownDatasetError(NNCFError, TypeError):
    """A dataset is of an unknown kind."""


class InvalidPathError(NNCFError, ValueError):
    """A path does not exist, cannot be read or written, or leaves the folder it must stay in."""


class UnsupportedBackendError(NNCFError, RuntimeError):
    """No installed plugin understands the model, or its backend cannot do what was asked for."""


class UnsupportedModelError(NNCFError, RuntimeError):
    """A model is malformed or has a form that cannot be processed."""


class UnsupportedVersionError(NNCFError, RuntimeError):
    """A framework, a model format or a plugin has a version that is not supported."""


class VerificationError(NNCFError, RuntimeError):
    """A model that was written does not do what it should, or a run does not give what it gave before."""


class InvalidQuantizerGroupError(NNCFError, ValueError):
    """A quantizer group is unknown."""


class InvalidGroupSizeError(NNCFError, ValueError):
    """A weight cannot be divided into groups of the requested size."""


class InstallationError(NNCFError, RuntimeError):
    """The installation is incomplete or contradicts itself."""


class ModuleNotFoundError(NNCFError, ImportError):
    """A package that is needed for what was asked for is not installed."""


class PluginError(NNCFError, RuntimeError):
    """A plugin breaks the contract of its hook, or none provides what was asked for."""


class ParameterNotSupportedError(NNCFError, ValueError):
    """A parameter, or a combination of parameters, is not supported."""


class InvalidCollectorTypeError(NNCFError, TypeError):
    """A statistics collector is of the wrong kind."""


class BufferFullError(NNCFError, RuntimeError):
    """A statistics buffer is full."""


class StatisticsCacheError(NNCFError, RuntimeError):
    """A statistics cache is missing, broken or was made for something else."""


def sentence(message: object) -> str:
    """A message that another sentence may follow, such as that of a runtime's error."""
    text = str(message).strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def told(error: BaseException) -> str:
    """Another's error in sentences: its type, its message and its notes."""
    return " ".join(map(sentence, (f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()))))
