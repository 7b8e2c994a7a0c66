"""What OpenVINO cannot express, and what would work instead."""

from __future__ import annotations

from nncf_core.contracts import CompressionRequest
from nncf_core.graph import Constant
from nncf_openvino.forms.emission import CODE_TYPES


def refusal(constant: Constant, request: CompressionRequest) -> str | None:
    """Why a constant cannot be compressed in this way; ``None`` when it can."""
    if request.format not in CODE_TYPES and request.format != "codebook":
        known = ", ".join([*CODE_TYPES, "codebook"])
        return f"OpenVINO has no element type for {request.format}. It has those of {known}."
    return None
