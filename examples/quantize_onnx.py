"""Quantizes weights and activations of an ONNX model to 8 bits, and measures it in onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

import nncf
from examples.measuring import Row, arguments, parsed
from examples.subjects import REAL, compared, onnx_run, subject


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Quantize, save, measure."""
    options = parsed(arguments(__doc__, **REAL), given)
    network = subject(options.model)
    model = onnx.load(network.path)

    # a few hundred samples of what the model will see; ranges of activations are found on them
    calibration = nncf.Dataset(network.items)
    quantized = nncf.quantize(model, calibration)

    path = options.output / "quantized.onnx"
    onnx.save(quantized, path)
    return compared(network, {"float32": network.path, "8 bits": path}, onnx_run)


if __name__ == "__main__":
    main()
