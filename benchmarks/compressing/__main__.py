"""Compresses a network by one method with whichever ``nncf`` is installed; prints seconds without imports, and peak."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compressing import MAIN, METHODS
from benchmarks.compressing.subjects import SUBJECTS, arguments_of
from benchmarks.memory import peak_memory


def compressed(model: Any, arguments: dict[str, Any], items: list[Any], sections: tuple[str, ...] = ()) -> Any:
    """A model compressed by the public function, or by a config of this project's own algorithms."""
    import nncf

    dataset = nncf.Dataset(items) if items else None
    if sections:
        from nncf_core.pipeline import run

        found = {MAIN: {**arguments, **({"subset_size": len(items)} if items else {})}}
        config = {"compression": [{"algorithm": name, **found.get(name, {})} for name in sections]}
        return run(config, model, dataset=dataset).model
    values: dict[str, Any] = dict(arguments)
    values["mode"] = nncf.CompressWeightsMode(values["mode"])
    if "sensitivity_metric" in values:
        values["sensitivity_metric"] = nncf.SensitivityMetric(values["sensitivity_metric"])
    return nncf.compress_weights(model, dataset=dataset, subset_size=max(len(items), 1), **values)


def import_all() -> None:
    """Compress a small model, so that nothing that every method needs is imported while the clock runs."""
    import openvino
    from openvino import opset13

    given = opset13.parameter([1, 64], np.float32)
    weight = opset13.constant(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))
    small = openvino.Model([opset13.matmul(given, weight, False, True)], [given])
    compressed(small, {"mode": "int4_asym", "group_size": 64, "ratio": 1.0, "all_layers": True}, [])


def main() -> None:
    """Read, compress, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("model", type=Path, help="OpenVINO IR")
    parser.add_argument("output", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="with the networks' data")
    parser.add_argument("--samples", type=int, default=32)
    options = parser.parse_args()
    import openvino

    method = METHODS[options.method]
    items = SUBJECTS[options.subject].items(options.folder, options.samples) if method.data else []
    import_all()
    start = time.perf_counter()
    model = openvino.Core().read_model(options.model)
    done = compressed(model, arguments_of(options.subject, options.method), items, method.sections)
    openvino.save_model(done, options.output, compress_to_fp16=False)
    print(time.perf_counter() - start, peak_memory())


if __name__ == "__main__":
    main()
