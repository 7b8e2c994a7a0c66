"""The backend's own options (``backend_params``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from nncf_core.errors import ValidationError

_TRACES = ("auto", "export", "hooks", "structure")
# fold_batch_norm: whether normalization becomes part of the layer before it when a model is quantized
# precision_init: loss and data of a training script, see nncf_torch.structures.QuantizationPrecisionInitArgs
_KNOWN = ("trace", "example_input", "compress_weights", "fold_batch_norm", "precision_init")


@frozen
class ReadOptions:
    """How the graph of an ``nn.Module`` is made.

    :param trace: ``structure``: from the modules alone. ``export``: by ``torch.export`` on the example input.
        ``hooks``: by watching a run on the example input. ``auto``: the third; without an example input the first.
    :param example_input: an input of the model: a tensor, a tuple (or list) of arguments, or a dict of keyword
        arguments.
    """

    trace: str = "auto"
    example_input: Any = None


def read_options(options: Mapping[str, Any]) -> ReadOptions:
    """Options from ``backend_params``.

    :raises ValidationError: for an unknown key or value, and where tracing lacks an example input.
    """
    unknown = [key for key in options if key not in _KNOWN]
    if unknown:
        raise ValidationError(
            f"backend_params: the PyTorch backend does not know {', '.join(map(repr, unknown))}; "
            f"it knows {', '.join(_KNOWN)}."
        )
    example = options.get("example_input")
    # on its way through a config a tuple becomes a list
    found = ReadOptions(options.get("trace", "auto"), tuple(example) if isinstance(example, list) else example)
    if found.trace not in _TRACES:
        raise ValidationError(f"backend_params: trace is {found.trace!r}; it must be one of {', '.join(_TRACES)}.")
    if found.trace in ("export", "hooks") and found.example_input is None:
        raise ValidationError(
            f"backend_params: trace={found.trace!r} needs an input to run the model on; give one as "
            "backend_params['example_input'], or a dataset."
        )
    return found
