"""The backend's own options (``backend_params``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nncf_core.errors import ValidationError

_MOC = "moc_transformations"
_IN_PLACE = "in_place"
_WITHOUT_EFFECT = ("stat_requests_number", "eval_requests_number")  # samples run side by side anyway
_KNOWN = ("compress_weights", _IN_PLACE, _MOC, *_WITHOUT_EFFECT)


def wants_transformations(options: Mapping[str, Any]) -> bool:
    """Whether OpenVINO's own transformations are to run before a model is quantized.

    :raises ValidationError: for an unknown key, or a value that is not ``True`` or ``False``.
    """
    check_options(options)
    return _flag(options, _MOC, default=True)


def works_in_place(options: Mapping[str, Any]) -> bool:
    """Whether the model that is given is to be changed.

    :raises ValidationError: for a value that is not ``True`` or ``False``.
    """
    return _flag(options, _IN_PLACE, default=False)


def _flag(options: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise ValidationError(f"backend_params: {name} is {value!r}; it must be True or False.")
    return value


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what the backend does not know.

    :raises ValidationError: for an unknown key.
    """
    unknown = [key for key in options if key not in _KNOWN]
    if unknown:
        raise ValidationError(
            f"backend_params: the OpenVINO backend does not know {', '.join(map(repr, unknown))}; "
            f"it knows {', '.join(_KNOWN)}."
        )
