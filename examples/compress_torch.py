"""Compresses the weights of a PyTorch module to 8 and to 4 bits without data, and measures it.

The module keeps its class; what it stores are the low-bit weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

import nncf
from examples.measuring import Row, arguments, parsed
from examples.torch_subjects import compared, subject

SETTINGS = {
    "8 bits": {"mode": nncf.CompressWeightsMode.INT8_ASYM},
    "4 bits, groups of 64": {"mode": nncf.CompressWeightsMode.INT4_ASYM, "group_size": 64},
    "NF4, groups of 64": {"mode": nncf.CompressWeightsMode.NF4, "group_size": 64},
}


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Compress, save, measure."""
    options = parsed(arguments(__doc__, language="SmolLM2-135M, a language model"), given)
    network = subject(options.model)
    model = network.model

    models = {"float32": model}
    for label, setting in SETTINGS.items():
        models[label] = nncf.compress_weights(model, **setting)

    small = models["4 bits, groups of 64"]
    torch.save(small.state_dict(), options.output / "weights.pt")
    # what was done is plain data: with it the weights can be loaded into the original model
    config = nncf.torch.get_config(small)
    restored = nncf.torch.load_from_config(model, config)
    restored.load_state_dict(torch.load(options.output / "weights.pt", weights_only=True))
    models["4 bits, from the file"] = restored
    return compared(models, network)


if __name__ == "__main__":
    main()
