"""The backend's own options (``backend_params``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nncf_core.errors import ValidationError

_KNOWN = ("compress_weights",)


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
