"""Compresses the weights of an OpenVINO model to 8 and to 4 bits without data, and measures it on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import openvino

import nncf
from examples.measuring import Row, arguments, parsed
from examples.subjects import compared, openvino_run, subject

SETTINGS = {
    "8 bits": {"mode": nncf.CompressWeightsMode.INT8_ASYM},
    "4 bits, groups of 64": {"mode": nncf.CompressWeightsMode.INT4_ASYM, "group_size": 64},
    "half 4, half 8 bits": {"mode": nncf.CompressWeightsMode.INT4_ASYM, "group_size": 64, "ratio": 0.5},
}


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Compress, save, measure."""
    options = parsed(arguments(__doc__, embedding="MiniLM, embeddings of sentences"), given)
    network = subject(options.model)
    model = openvino.convert_model(network.path)
    paths = {"float32": options.output / "float32.xml"}
    openvino.save_model(model, paths["float32"], compress_to_fp16=False)

    for label, setting in SETTINGS.items():
        paths[label] = options.output / f"compressed_{len(paths)}.xml"
        # read anew: where the distribution nncf is installed, a model is compressed in place
        small = nncf.compress_weights(openvino.Core().read_model(paths["float32"]), **setting)
        openvino.save_model(small, paths[label], compress_to_fp16=False)
    return compared(network, paths, openvino_run)


if __name__ == "__main__":
    main()
