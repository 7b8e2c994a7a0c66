"""Quantizes an OpenVINO model within a limit of accuracy, and measures it on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import openvino

import nncf
from examples.measuring import Row, arguments, parsed
from examples.subjects import compared, openvino_run, subject


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Quantize, save, measure."""
    parser = arguments(__doc__, recognition="PP-OCRv4 reads lines of text")
    parser.add_argument("--max-drop", type=float, default=0.005, help="how much of the metric may be lost")
    options = parsed(parser, given)
    network = subject(options.model)
    model = openvino.convert_model(network.path)
    before = options.output / "float32.xml"
    openvino.save_model(model, before, compress_to_fp16=False)

    def validate(compiled: openvino.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
        """The metric, and that of each item: then groups of quantizers are ranked on a part of the items."""
        hits = [float(network.is_right(lambda feed: compiled(feed).to_tuple(), item)) for item in items]
        return sum(hits) / len(hits), hits

    controlled = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=nncf.Dataset(network.items),
        validation_dataset=nncf.Dataset(network.validation, lambda item: item[0]),
        validation_fn=validate,
        max_drop=options.max_drop,
        drop_type=nncf.DropType.ABSOLUTE,
    )

    path = options.output / "controlled.xml"
    openvino.save_model(controlled, path, compress_to_fp16=False)
    return compared(network, {"float32": before, f"within {options.max_drop}": path}, openvino_run)


if __name__ == "__main__":
    main()
