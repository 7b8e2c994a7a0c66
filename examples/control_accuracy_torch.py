"""Quantizes a PyTorch module within a limit of accuracy, and measures it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

import nncf
from examples.measuring import Row, arguments, parsed
from examples.torch_subjects import Digits, compared, convolutions, items, pictures


def validate(model: nn.Module, pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, list[float]]:
    """The metric, and that of each item: then groups of quantizers are ranked on a part of the items."""
    with torch.no_grad():
        hits = [float((model(image).argmax(1) == label).float().mean()) for image, label in pairs]
    return sum(hits) / len(hits), hits


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Train, quantize, measure."""
    parser = arguments(__doc__)
    parser.add_argument("--max-drop", type=float, default=0.005, help="how much of the accuracy may be lost")
    options = parsed(parser, given)
    data = Digits()
    model = convolutions(data, epochs=3 if options.small else 12)
    pairs = list(zip(data.image(data.test).split(1), data.test_labels.split(1), strict=True))

    controlled = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=nncf.Dataset(items(data, 64, images=True)),
        validation_dataset=nncf.Dataset(pairs, lambda pair: pair[0]),
        validation_fn=validate,
        max_drop=options.max_drop,
    )

    torch.save(controlled.state_dict(), options.output / "controlled.pt")
    return compared({"float32": model, f"within {options.max_drop}": controlled}, pictures(data, model))


if __name__ == "__main__":
    main()
