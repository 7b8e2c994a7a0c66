"""Quantizes weights and activations of an OpenVINO model to 8 bits, and measures it on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import openvino

import nncf
from examples.measuring import Row, arguments, parsed
from examples.subjects import REAL, compared, openvino_run, subject


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Quantize, save, measure."""
    options = parsed(arguments(__doc__, **REAL), given)
    network = subject(options.model)
    model = openvino.convert_model(network.path)
    before = options.output / "float32.xml"
    openvino.save_model(model, before, compress_to_fp16=False)

    # a few hundred samples of what the model will see; ranges of activations are found on them
    calibration = nncf.Dataset(network.items)
    quantized = nncf.quantize(model, calibration, preset=nncf.QuantizationPreset.MIXED)

    path = options.output / "quantized.xml"
    openvino.save_model(quantized, path, compress_to_fp16=False)
    return compared(network, {"float32": before, "8 bits": path}, openvino_run)


if __name__ == "__main__":
    main()
