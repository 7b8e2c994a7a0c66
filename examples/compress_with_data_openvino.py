"""Compresses the weights of an OpenVINO model to 4 bits with calibration data, and measures what that gains."""

from __future__ import annotations

from collections.abc import Sequence

import openvino

import nncf
from examples.measuring import Row, arguments, parsed
from examples.subjects import compared, openvino_run, subject

METHODS = {
    "without data": {},
    "AWQ, scale estimation": {"awq": True, "scale_estimation": True},
    "GPTQ": {"gptq": True},
}


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Compress, save, measure."""
    options = parsed(arguments(__doc__, embedding="MiniLM, embeddings of sentences"), given)
    network = subject(options.model)
    paths = {"float32": options.output / "float32.xml"}
    openvino.save_model(openvino.convert_model(network.path), paths["float32"], compress_to_fp16=False)
    setting = {"mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": 64}
    calibration = nncf.Dataset(network.items)

    for label, methods in METHODS.items():
        paths[label] = options.output / f"with_data_{len(paths)}.xml"
        data = {"dataset": calibration, "subset_size": 64} if methods else {}
        # read anew: where the distribution nncf is installed, a model is compressed in place
        model = openvino.Core().read_model(paths["float32"])
        openvino.save_model(
            nncf.compress_weights(model, **setting, **methods, **data), paths[label], compress_to_fp16=False
        )
    return compared(network, paths, openvino_run)


if __name__ == "__main__":
    main()
