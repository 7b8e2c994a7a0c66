"""Trains a module with 4-bit weights and 8-bit activations from an NNCFConfig, and exports it to ONNX."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import torch
from torch.nn import functional

import nncf
from examples.measuring import Row, arguments, parsed
from examples.torch_subjects import Digits, compared, convolutions, items, pictures

CONFIG = {
    "input_info": {"sample_size": [1, 1, 8, 8]},
    "compression": {
        "algorithm": "quantization",
        "weights": {"bits": 4, "mode": "symmetric", "per_channel": True},
        "activations": {"bits": 8, "mode": "asymmetric"},
        "initializer": {"range": {"num_init_samples": 64}},
    },
}


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Train, quantize, train on, export, measure."""
    options = parsed(arguments(__doc__), given)
    data = Digits()
    model = convolutions(data, epochs=3 if options.small else 12)
    config = nncf.NNCFConfig.from_dict(CONFIG)
    nncf.torch.register_default_init_args(config, items(data, 64, images=True))
    controller, trained = nncf.torch.create_compressed_model(model, config)
    models = {"float32": model, "4 bits, untrained": nncf.strip(copy.deepcopy(trained))}

    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-3)
    for epoch in range(2 if options.small else 8):
        controller.scheduler.epoch_step()
        trained.train()
        for images, labels in data.batches():
            controller.scheduler.step()
            loss = functional.cross_entropy(trained(images), labels) + controller.loss()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}")

    models["4 bits, trained"] = nncf.strip(trained.eval(), strip_format=nncf.StripFormat.DQ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        controller.export_model(options.output / "trained.onnx")
    print(controller.statistics().to_str(), "\n")
    return compared(models, pictures(data, model))


if __name__ == "__main__":
    main()
