"""Quantizes the text recogniser of PP-OCRv4 and measures it, with whichever ``nncf`` is installed; prints JSON.

The network comes from the package ``rapidocr-onnxruntime`` (pip install --no-deps), the text from Python's interactive
help, rendered with noise. The folder of the model is given: an environment with the reference can run this, too.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

CALIBRATION, TEST = 300, 400
FILE = "ch_PP-OCRv4_rec_infer.onnx"


def lines(count: int) -> list[str]:
    """Pieces of prose."""
    from pydoc_data import topics

    prose = " ".join(topics.topics[name] for name in sorted(topics.topics))
    found = re.findall(r"[A-Za-z]{3,}[a-z ,.]{4,18}[a-z]", prose)
    return [found[index] for index in np.random.default_rng(0).choice(len(found), count, replace=False)]


def rendered(text: str, seed: int) -> np.ndarray:
    """An image of a line, [1, 3, 48, 320], from -1 to 1."""
    from PIL import Image, ImageDraw, ImageFont

    random = np.random.default_rng(seed)
    size = int(random.integers(20, 34))
    font = ImageFont.load_default(size)
    image = Image.new("L", (int(font.getlength(text)) + 20, size + 16), int(random.integers(180, 255)))
    ImageDraw.Draw(image).text((10, 6), text, font=font, fill=int(random.integers(0, 90)))
    pixels = np.asarray(image, np.float32)
    pixels = np.clip(pixels + random.normal(0, random.uniform(5, 38), pixels.shape), 0, 255)
    small = np.asarray(Image.fromarray(pixels.astype(np.uint8)).resize((320, 48)), np.float32)
    return np.repeat((small / 127.5 - 1)[None, None], 3, axis=1)


def decoded(scores: np.ndarray, characters: list[str]) -> list[str]:
    """Text by best path: repetitions and blanks are left out."""
    result = []
    for row in scores.argmax(-1):
        kept = [now for before, now in zip([0, *row], row, strict=False) if now not in (before, 0)]
        result.append("".join(characters[index] for index in kept).strip())
    return result


def runner(model: Any, framework: str) -> Callable[[np.ndarray], np.ndarray]:
    """Runs a model on one thread."""
    if framework == "openvino":
        import openvino

        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        return lambda x: np.asarray(compiled(x)[0])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def measured(
    model: Any, framework: str, images: list[np.ndarray], truth: list[str], characters: list[str]
) -> dict[str, float]:
    """Share of lines that are read without an error, and milliseconds for one."""
    run = runner(model, framework)
    read: list[str] = []
    for start in range(0, len(images), 16):
        read += decoded(run(np.concatenate(images[start : start + 16])), characters)
    times = []
    for image in images[:30]:
        start_time = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start_time)
    return {
        "accuracy": float(np.mean([a == b.strip() for a, b in zip(read, truth, strict=True)])),
        "latency": 1e3 * median(times),
    }


def main() -> None:
    """Print the figures of one framework."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the model")
    parser.add_argument("--framework", choices=["onnx", "openvino"], default="onnx")
    options = parser.parse_args()
    import nncf

    original = onnx.load(options.folder / FILE)
    characters = ["", *next(p.value for p in original.metadata_props if p.key == "character").splitlines(), " "]
    model: Any = onnx.version_converter.convert_version(original, 13)
    name = model.graph.input[0].name
    if options.framework == "openvino":
        import openvino

        model = openvino.convert_model(options.folder / FILE)
    texts = lines(CALIBRATION + TEST)
    images = [rendered(text, seed) for seed, text in enumerate(texts)]
    items: list[Any] = images[:CALIBRATION]
    dataset = nncf.Dataset(items if options.framework == "openvino" else [{name: image} for image in items])
    test = (options.framework, images[CALIBRATION:], texts[CALIBRATION:], characters)
    before = measured(model, *test)
    start = time.perf_counter()
    quantized = nncf.quantize(model, dataset)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"before": before, "after": measured(quantized, *test), "seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    main()
