"""Compresses the weights of a trained ONNX model in several ways, and measures what each costs.

Prints one table: file size, bits per weight, accuracy on held-out images, and latency in onnxruntime.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nncf
from nncf_core.report import describe_model

MODEL = Path(__file__).parents[1] / "models" / "digits_transformer.onnx"
WORST_INT8_DROP = 0.01

FUSED = nncf.AdvancedCompressionParameters(backend_params={"weight_format": "matmul_nbits"})
"""onnxruntime's own operators for low-bit weights: they decompress while they multiply."""

SETTINGS = {
    "int8": {"mode": nncf.CompressWeightsMode.INT8_ASYM},
    "int8, fused": {"mode": nncf.CompressWeightsMode.INT8_ASYM, "advanced_parameters": FUSED},
    "int4, groups of 64": {"mode": nncf.CompressWeightsMode.INT4_ASYM, "group_size": 64},
    "int4, groups of 64, fused": {
        "mode": nncf.CompressWeightsMode.INT4_ASYM,
        "group_size": 64,
        "advanced_parameters": FUSED,
    },
    "nf4, groups of 64": {"mode": nncf.CompressWeightsMode.NF4, "group_size": 64},
}


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """Images that the model was not trained on, as tokens [540, 64], and their digits."""
    digits = load_digits()
    tokens = digits.data.astype(np.int64)
    _, x, _, y = train_test_split(tokens, digits.target, test_size=0.3, random_state=0, stratify=digits.target)
    return x, y


def session(path: Path) -> onnxruntime.InferenceSession:
    """A session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def accuracy(running: onnxruntime.InferenceSession, x: np.ndarray, y: np.ndarray) -> float:
    """Share of the images whose digit is recognised."""
    scores = np.concatenate([running.run(None, {"tokens": batch})[0] for batch in np.array_split(x, 9)])
    return float((scores.argmax(1) == y).mean())


def latencies(sessions: Sequence[onnxruntime.InferenceSession], x: np.ndarray, runs: int) -> list[float]:
    """Median milliseconds of one image for each session; they take turns, so that all see the same machine."""
    times: list[list[float]] = [[] for _ in sessions]
    for index in range(runs):
        for running, taken in zip(sessions, times, strict=True):
            image = x[index % len(x)][None]
            start = time.perf_counter()
            running.run(None, {"tokens": image})
            taken.append(1e3 * (time.perf_counter() - start))
    return [median(taken[runs // 10 :]) for taken in times]


def main(given: Sequence[str] | None = None) -> int:
    """Compress, measure, print; gives the exit code.

    :param given: arguments; by default those of the command.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder of the compressed models")
    parser.add_argument("--runs", type=int, default=300, help="images that latency is measured on")
    parser.add_argument(
        "--small", action="store_true", help="the repository's own network on 30 images: done in seconds"
    )
    options = parser.parse_args(given)
    if options.small:
        options.model, options.runs = MODEL, 30
    options.output.mkdir(parents=True, exist_ok=True)
    original = onnx.load(options.model)
    paths = {"original (float32)": options.model}
    for label, arguments in SETTINGS.items():
        path = options.output / (label.replace(", ", "_").replace(" ", "_") + ".onnx")
        onnx.save(nncf.compress_weights(original, **arguments), path)
        paths[label] = path

    x, y = held_out()
    sessions = [session(path) for path in paths.values()]
    accuracies = [accuracy(running, x, y) for running in sessions]
    times = latencies(sessions, x, options.runs)
    print(f"{options.model.name}: {len(x)} held-out images, onnxruntime {onnxruntime.__version__}, one thread\n")
    print(f"{'weights':<28}{'file, kB':>10}{'bits/weight':>13}{'accuracy':>10}{'ms/image':>10}")
    for (label, path), correct, milliseconds in zip(paths.items(), accuracies, times, strict=True):
        bits = describe_model(nncf.build_graph(path)).bits_per_weight
        kilobytes = path.stat().st_size / 1e3
        print(f"{label:<28}{kilobytes:>10.0f}{bits:>13.2f}{correct:>10.4f}{milliseconds:>10.3f}")
    print(f"\nThe compressed models are in {options.output.resolve()}")
    if accuracies[1] < accuracies[0] - WORST_INT8_DROP:
        print(f"INT8 lost more than {WORST_INT8_DROP:.0%} accuracy: something is wrong.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
