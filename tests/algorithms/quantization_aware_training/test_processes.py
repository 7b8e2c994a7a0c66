"""Several processes train a compressed model to the weights that one comes to with all of their batches."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import nncf.torch
from nncf import NNCFConfig
from tests.algorithms.quantization_aware_training.training import BATCH, batches
from tests.backends.digits import Convolutions, images

QUANTIZATION = {"algorithm": "quantization", "preset": "mixed", "weights": {"bits": 4}, "activations": {"bits": 6}}
SPARSITY = {
    "algorithm": "magnitude_sparsity",
    "sparsity_init": 0.3,
    "params": {"schedule": "multistep", "multistep_steps": [1], "multistep_sparsity_levels": [0.3, 0.5]},
}
DRAWN = {"algorithm": "rb_sparsity", "params": {"sparsity_target": 0.4, "sparsity_target_epoch": 2}}
CONFIGS = {"quantized": [QUANTIZATION], "sparse": [SPARSITY, QUANTIZATION], "drawn": [DRAWN, QUANTIZATION]}
STEPS = 5


def steps(model: Any, controller: Any, parts: int, part: int) -> None:
    """Train on a part of each batch, in doubles: sums of other order come to the same integers."""
    x, y, _, _ = images()
    x = x.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    model.train()
    for epoch in range(2):
        controller.scheduler.epoch_step()
        for chosen in batches(epoch)[:STEPS]:
            mine = chosen.chunk(parts)[part]
            controller.scheduler.step()
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[mine]), y[mine]) + controller.loss()
            loss.backward()
            optimizer.step()


def created(sections: list[dict[str, Any]]) -> tuple[Any, Any]:
    """A network that is not trained yet, compressed; and its controller."""
    torch.manual_seed(0)
    network = Convolutions()
    nn.init.normal_(network.head, std=0.2)
    network.drop.p = 0.0
    x, y, _, _ = images()
    made = NNCFConfig.from_dict({"input_info": {"sample_size": [1, 1, 8, 8]}, "compression": sections})
    nncf.torch.register_default_init_args(made, DataLoader(TensorDataset(x.double(), y), batch_size=BATCH))
    return nncf.torch.create_compressed_model(network.double(), made)


def process(rank: int, port: int, folder: str) -> None:
    """One of two; it trains the model of each config."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    for name, sections in CONFIGS.items():
        controller, model = created(sections)
        steps(DistributedDataParallel(model), controller, 2, rank)
        if rank == 0:
            torch.save(model.state_dict(), Path(folder) / name)
    distributed.barrier()
    distributed.destroy_process_group()
    # Threads of gloo that still let go of tensors while Python takes itself down abort the process: leave at once.
    os._exit(0)


def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(process, (port, str(tmp_path)), nprocs=2)
    for config_name, sections in CONFIGS.items():
        found = torch.load(tmp_path / config_name, weights_only=True)
        controller, model = created(sections)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        steps(model, controller, 1, 0)
        for name, tensor in model.state_dict().items():
            apart, moved = (float((tensor.double() - other[name].double()).abs().max()) for other in (found, before))
            assert apart <= 0.01 * moved, (config_name, name, apart, moved)
        scales = [name for name in before if name.endswith("_scale")]
        assert scales
        assert all(not torch.equal(before[name], found[name]) for name in scales)
