"""Takes channels out of a module while it is trained towards its original's outputs, and makes it smaller for good."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

import nncf
from examples.measuring import Row, arguments, parsed
from examples.torch_subjects import Digits, compared, convolutions, pictures


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Train, prune, train on, shrink, measure."""
    parser = arguments(__doc__)
    parser.add_argument("--target", type=float, default=0.5, help="share of the channels that go")
    options = parsed(parser, given)
    data = Digits()
    model = convolutions(data, epochs=3 if options.small else 12)
    epochs = 4 if options.small else 12
    config = nncf.NNCFConfig.from_dict(
        {
            "input_info": {"sample_size": [1, 1, 8, 8]},
            "compression": [
                {
                    "algorithm": "filter_pruning",
                    "pruning_init": 0.1,
                    "params": {
                        "pruning_target": options.target,
                        "pruning_steps": epochs // 2,
                        "filter_importance": "geometric_median",
                    },
                },
                {"algorithm": "knowledge_distillation", "type": "softmax"},
            ],
        }
    )
    controller, trained = nncf.torch.create_compressed_model(model, config)

    optimizer = torch.optim.AdamW(trained.parameters(), lr=2e-3)
    for epoch in range(epochs):
        controller.scheduler.epoch_step()
        trained.train()
        for images, labels in data.batches():
            controller.scheduler.step()
            loss = functional.cross_entropy(trained(images), labels) + controller.loss()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}, {controller.compression_rate:.0%} of the channels are gone")

    small = controller.strip()
    torch.save(small.state_dict(), options.output / "pruned.pt")
    return compared({"float32": model, "pruned": small.eval()}, pictures(data, model))


if __name__ == "__main__":
    main()
