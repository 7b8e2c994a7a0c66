"""Goes on with a training from files, and prints the losses; a script that tests start in a process of its own.

It takes a folder with ``base.pt``, ``model.pt``, ``optimizer.pt``, ``config.json`` and ``state.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

import nncf
import nncf.torch
from tests.backends.digits import Convolutions
from tests.backends.trained_digits import fit, optimizer_of


def main(folder: Path) -> None:
    base = Convolutions()
    base.load_state_dict(torch.load(folder / "base.pt", weights_only=True))
    config = nncf.NNCFConfig.from_json(folder / "config.json")
    state = json.loads((folder / "state.json").read_text())
    controller, model = nncf.torch.create_compressed_model(base.eval(), config, compression_state=state)
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    nncf.torch.load_state(model, torch.load(folder / "model.pt", weights_only=True), is_resume=True)
    optimizer = optimizer_of(model)
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    print(json.dumps(fit(controller, model, optimizer, range(2, 4))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
