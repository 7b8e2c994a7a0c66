"""Quantizes an ONNX model within a limit of accuracy, and measures it in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
import onnxruntime

import nncf
from examples.measuring import Row, arguments, parsed
from examples.subjects import compared, onnx_run, subject


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Quantize, save, measure."""
    parser = arguments(__doc__, recognition="PP-OCRv4 reads lines of text")
    parser.add_argument("--max-drop", type=float, default=0.005, help="how much of the metric may be lost")
    options = parsed(parser, given)
    network = subject(options.model)
    model = onnx.load(network.path)

    def validate(session: onnxruntime.InferenceSession, items: Iterable[Any]) -> tuple[float, list[float]]:
        """The metric, and that of each item: then groups of quantizers are ranked on a part of the items."""
        hits = [float(network.is_right(lambda feed: session.run(None, feed), item)) for item in items]
        return sum(hits) / len(hits), hits

    controlled = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=nncf.Dataset(network.items),
        validation_dataset=nncf.Dataset(network.validation, lambda item: item[0]),
        validation_fn=validate,
        max_drop=options.max_drop,
    )

    path = options.output / "controlled.onnx"
    onnx.save(controlled, path)
    return compared(network, {"float32": network.path, f"within {options.max_drop}": path}, onnx_run)


if __name__ == "__main__":
    main()
