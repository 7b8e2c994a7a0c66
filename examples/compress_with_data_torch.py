"""Compresses the weights of a PyTorch module to 4 bits with calibration data, and measures what that gains."""

from __future__ import annotations

from collections.abc import Sequence

import torch

import nncf
from examples.measuring import Row, arguments, parsed
from examples.torch_subjects import compared, subject

METHODS = {
    "without data": {},
    "AWQ, scale estimation": {"awq": True, "scale_estimation": True},
    "GPTQ": {"gptq": True},
}


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Compress, save, measure."""
    options = parsed(arguments(__doc__, language="SmolLM2-135M, a language model"), given)
    network = subject(options.model)
    setting = {"mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": 64}
    calibration = nncf.Dataset(network.items)

    models = {"float32": network.model}
    for label, methods in METHODS.items():
        dataset = {"dataset": calibration, "subset_size": 64} if methods else {}
        models[label] = nncf.compress_weights(network.model, **setting, **methods, **dataset)
    torch.save(models["GPTQ"].state_dict(), options.output / "weights.pt")
    return compared(models, network)


if __name__ == "__main__":
    main()
