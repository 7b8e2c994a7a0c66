"""The score of a model file in OpenVINO, computed in float32 whatever its weights are stored in.

Prints JSON: the parts of the score, and how far outputs are from those of the float model where that is measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.compressing.subjects import SUBJECTS
from benchmarks.networks import Feed, Run

# activations are neither rounded nor quantized on the way: the figure is that of the weights
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}


def runner(path: Path) -> Run:
    """Runs a model file."""
    import openvino

    request = openvino.Core().compile_model(path, "CPU", EXACT).create_infer_request()

    def run(feed: Feed) -> list[np.ndarray]:
        return list(request.infer(feed, share_inputs=True).values())

    return run


def main() -> None:
    """Print the parts of the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("model", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="with the networks' data")
    parser.add_argument("--windows", type=int, default=32, help="windows of text, where the network reads text")
    options = parser.parse_args()
    subject, run = SUBJECTS[options.subject], runner(options.model)
    found = {"parts": subject.parts(run, options.folder, options.windows).tolist()}
    if subject.distances is not None:
        exact = runner(subject.prepare(options.folder))
        found["distances"] = subject.distances(run, exact, options.folder).tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
