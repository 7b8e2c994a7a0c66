"""Compresses a model file as a config file says, as the command ``nncf run`` does, and shows the plan before.

The config is plain data: the same one runs for models of every backend.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import nncf
from examples.measuring import Row, arguments, parsed
from examples.subjects import compared, onnx_run, subject
from nncf_core.pipeline import run

CONFIG = {
    "compression": [
        {"algorithm": "awq", "mode": "int4_asym", "group_size": 32, "subset_size": 32},
        {"algorithm": "weight_compression", "mode": "int4_asym", "group_size": 32, "ratio": 0.9},
        {"algorithm": "scale_estimation", "subset_size": 32},
    ]
}


def main(given: Sequence[str] | None = None) -> dict[str, Row]:
    """Write the config, run it, measure."""
    options = parsed(arguments(__doc__, embedding="MiniLM, embeddings of sentences"), given)
    network = subject(options.model)
    path = options.output / "config.json"
    path.write_text(json.dumps(CONFIG, indent=2) + "\n")

    # validated against a schema that the installed algorithms make up
    config = nncf.NNCFConfig.from_json(path)
    small = options.output / "configured.onnx"
    result = run(config, network.path, dataset=nncf.Dataset(network.items), output=small)

    print(result.report, "\n")
    return compared(network, {"float32": network.path, "as the config says": small}, onnx_run)


if __name__ == "__main__":
    main()
