"""Which weights of an OpenVINO model get 4 bits with each sensitivity metric and ratio, as JSON.

Run it in an environment with this project and in one with nncf 3.4.0, on the same model and data, then compare:

    python benchmarks/mixed_precision.py choose model.xml data.npz ours.json
    /other/python benchmarks/mixed_precision.py choose model.xml data.npz theirs.json
    python benchmarks/mixed_precision.py compare ours.json theirs.json

The data holds an array ``[samples, …]`` for each input, by its name.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

RATIOS = (0.3, 0.6, 0.8)
_USERS = ("MatMul", "Gather")


def chosen(model: Path, data: Path, group_size: int) -> dict[str, list[str]]:
    """Names of the operators whose weights get 4 bits, by metric and ratio."""
    import openvino

    import nncf

    with np.load(data) as arrays:
        named = {name: arrays[name] for name in arrays.files}
    count = min(len(array) for array in named.values())
    items = [{name: array[i : i + 1] for name, array in named.items()} for i in range(count)]
    found = {}
    for metric in nncf.SensitivityMetric:
        for ratio in RATIOS:
            compressed = nncf.compress_weights(
                openvino.Core().read_model(model),
                mode=nncf.CompressWeightsMode.INT4_SYM,
                ratio=ratio,
                group_size=group_size,
                dataset=nncf.Dataset(items),
                sensitivity_metric=metric,
            )
            found[f"{metric.value} {ratio}"] = sorted(_low(compressed))
    return found


def _low(model: Any) -> list[str]:
    """Operators that take a weight of 4 bits."""
    names = []
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().get_type_name() == "i4":
            user = node
            while user.get_type_name() not in _USERS:
                (user, *_) = [port.get_node() for port in user.output(0).get_target_inputs()]
            names.append(user.get_friendly_name())
    return names


def compare(first: dict[str, list[str]], second: dict[str, list[str]]) -> None:
    """Print what one has and the other has not."""
    for key, names in first.items():
        own, other = set(names) - set(second[key]), set(second[key]) - set(names)
        print(
            f"{key}: {len(names)} and {len(second[key])}",
            *([f"{sorted(own)} | {sorted(other)}"] if own or other else []),
        )


def main() -> None:
    """Choose or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["choose", "compare"])
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--group-size", type=int, default=64)
    options = parser.parse_args()
    if options.what == "choose":
        model, data, output = options.paths
        output.write_text(json.dumps(chosen(model, data, options.group_size), indent=1))
    else:
        compare(*(json.loads(path.read_text()) for path in options.paths))


if __name__ == "__main__":
    main()
