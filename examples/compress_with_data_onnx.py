"""Compresses the weights of an ONNX model to 4 bits with calibration data, and measures what that gains."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

import nncf
from examples.measuring import Row, arguments, parsed
from examples.subjects import compared, onnx_run, subject

METHODS = {
    "without data": {},
    "AWQ, scale estimation": {"awq": True, "scale_estimation": True},
    "GPTQ": {"gptq": True},
}


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Compress, save, measure."""
    options = parsed(arguments(__doc__, embedding="MiniLM, embeddings of sentences"), given)
    network = subject(options.model)
    model = onnx.load(network.path)
    setting = {"mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": 64}
    calibration = nncf.Dataset(network.items)

    paths = {"float32": network.path}
    for label, methods in METHODS.items():
        paths[label] = options.output / f"with_data_{len(paths)}.onnx"
        data = {"dataset": calibration, "subset_size": 64} if methods else {}
        onnx.save(nncf.compress_weights(model, **setting, **methods, **data), paths[label])
    return compared(network, paths, onnx_run)


if __name__ == "__main__":
    main()
