"""What is done to a working model before quantizers are inserted: OpenVINO's own common transformations.

``openvino.convert_model`` has run them already. A model that was read from an ONNX file, or built by hand, has
normalization and products behind its convolutions still.
"""

from __future__ import annotations

import openvino as ov
from openvino._offline_transformations import apply_moc_transformations


def fold(model: ov.Model) -> None:
    """Fold constants, normalization and arithmetic into layers."""
    apply_moc_transformations(model, cf=True)
