"""Quantizes weights and activations of a PyTorch module to 8 bits, and measures it, there and in OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence

import openvino

import nncf
from examples.measuring import Row, arguments, latencies, megabytes, parsed, table
from examples.torch_subjects import Digits, compared, convolutions, items, pictures


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Train, quantize, convert, measure."""
    options = parsed(arguments(__doc__), given)
    data = Digits()
    model = convolutions(data, epochs=3 if options.small else 12)
    calibration = nncf.Dataset(items(data, 64, images=True))

    quantized = nncf.quantize(model, calibration)

    print("In PyTorch, which computes with rounded floats, to train and to export:")
    rows = compared({"float32": model, "8 bits": quantized}, pictures(data, model))

    # with weights as the integers that they are rounded to
    stored = nncf.strip(quantized, strip_format=nncf.StripFormat.DQ)
    for label, module in (("float32", model), ("8 bits", stored)):
        converted = openvino.convert_model(module, example_input=data.image(data.test[:2]), input=[-1, 1, 8, 8])
        path = options.output / f"{label.replace(' ', '_')}.xml"
        openvino.save_model(converted, path, compress_to_fp16=False)
        compiled = openvino.Core().compile_model(path, "CPU")
        scores = compiled(data.image(data.test).numpy())[0]
        hits = scores.argmax(1) == data.test_labels.numpy()
        one = data.image(data.test[:1]).numpy()
        (taken,) = latencies([lambda run=compiled, image=one: run(image)])
        rows[f"{label}, OpenVINO"] = Row(megabytes(path), float(hits.mean()), rows[label].error, taken)
    print("\nIn OpenVINO, which computes with integers:")
    table("accuracy", {label: row for label, row in rows.items() if "OpenVINO" in label})
    return rows


if __name__ == "__main__":
    main()
