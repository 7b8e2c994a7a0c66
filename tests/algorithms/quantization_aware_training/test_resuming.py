"""A training that goes on in another process, from files, is the training that was not interrupted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nncf
import nncf.torch
from tests.algorithms.quantization_aware_training.training import config, dense, trained

SECTIONS = (
    {
        "algorithm": "quantization",
        "preset": "mixed",
        "weights": {"bits": 4},
        "activations": {"bits": 5},
        "params": {"activations_quant_start_epoch": 0, "weights_quant_start_epoch": 2},
    },
    {"algorithm": "rb_sparsity", "params": {"sparsity_target": 0.4, "sparsity_target_epoch": 3}},
)

_GO_ON = """
import json, sys
import torch
import nncf.torch
from nncf import NNCFConfig
from tests.algorithms.quantization_aware_training.test_resuming import SECTIONS
from tests.algorithms.quantization_aware_training.training import dense, trained

folder = sys.argv[1]
torch.set_num_threads(1)
made = NNCFConfig.from_dict({"input_info": {"sample_size": [1, 1, 8, 8]}, "compression": list(SECTIONS)})
state = json.load(open(f"{folder}/compression.json"))
controller, model = nncf.torch.create_compressed_model(dense(), made, compression_state=state)
checkpoint = torch.load(f"{folder}/training.pt", weights_only=True)
assert nncf.torch.load_state(model, checkpoint["model"], is_resume=True) == len(model.state_dict())
optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
optimizer.load_state_dict(checkpoint["optimizer"])
losses = []
trained(controller, model, 2, first=1, optimizer=optimizer, tell=losses.append)
json.dump(losses, open(f"{folder}/losses.json", "w"))
"""

_RUN = """
import sys
import torch
import nncf.torch
from tests.backends.digits import Convolutions

folder = sys.argv[1]
torch.set_num_threads(1)
checkpoint = torch.load(f"{folder}/done.pt", weights_only=True)
model = nncf.torch.load_from_config(Convolutions(), checkpoint["config"])
model.load_state_dict(checkpoint["model"])
x = torch.load(f"{folder}/x.pt", weights_only=True)
with torch.no_grad():
    torch.save(model.eval()(x), f"{folder}/y.pt")
"""


def run(code: str, *arguments: str) -> None:
    """In a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_losses_are_those_of_the_uninterrupted_training(tmp_path: Path) -> None:
    controller, model = nncf.torch.create_compressed_model(dense(), config(*SECTIONS))
    optimizer = trained(controller, model, 1)
    (tmp_path / "compression.json").write_text(json.dumps(controller.get_compression_state()))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "training.pt")
    losses = list[float]()
    trained(controller, model, 2, first=1, optimizer=optimizer, tell=losses.append)
    run(_GO_ON, str(tmp_path))
    assert json.loads((tmp_path / "losses.json").read_text()) == losses

    # and the result is read without the training code
    stripped = controller.strip(strip_format=nncf.StripFormat.DQ)
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.save({"config": nncf.torch.get_config(stripped), "model": stripped.state_dict()}, tmp_path / "done.pt")
    torch.save(x, tmp_path / "x.pt")
    run(_RUN, str(tmp_path))
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "y.pt", weights_only=True), stripped(x))


def test_a_state_of_another_config() -> None:
    given = config({"algorithm": "quantization"})
    controller, _ = nncf.torch.create_compressed_model(dense(), given)
    other = config({"algorithm": "magnitude_sparsity"})
    with pytest.raises(nncf.ValidationError, match="'quantization'"):
        nncf.torch.create_compressed_model(dense(), other, controller.get_compression_state())
