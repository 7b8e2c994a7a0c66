"""Importing OpenVINO for a command, without its model converter.

Importing the converter sends a usage event over the network and waits for it, up to three seconds behind a firewall
that drops packets. No command converts models. ``import openvino`` itself takes the converter as an optional part.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from nncf_core.process import is_own

_CONVERTER = "openvino.tools.ovc"


def load() -> None:
    """Import OpenVINO; in a command's own process, the converter only when somebody calls it."""
    if "openvino" in sys.modules or not is_own():
        return
    sys.modules[_CONVERTER] = None  # type: ignore[assignment] # Python's way to say that there is no such module
    try:
        import openvino
    finally:
        del sys.modules[_CONVERTER]
    openvino.convert_model = _convert_model


def _convert_model(*arguments: Any, **options: Any) -> Any:
    from openvino.tools.ovc import convert_model

    root = logging.getLogger()
    level = root.level
    try:
        return convert_model(*arguments, **options)
    finally:
        # a conversion that fails leaves all loggers of the process at ERROR
        root.setLevel(level)
