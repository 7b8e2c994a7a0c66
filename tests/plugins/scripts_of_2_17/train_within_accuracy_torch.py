"""Sparsity in a training that knows how much accuracy may be lost."""

import numpy as np
import torch
from torch import nn

from nncf import NNCFConfig
from nncf.common.accuracy_aware_training import create_accuracy_aware_training_loop
from nncf.torch import create_compressed_model
from nncf.torch.sparsity.magnitude.algo import MagnitudeSparsityController

torch.manual_seed(0)
data = np.load("digits.npz")
images, labels = torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def train_epoch(model, optimizer, controller=None):
    model.train()
    for chosen in torch.randperm(1300).split(65):
        if controller is not None:
            controller.scheduler.step()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()


def accuracy(model):
    model.eval()
    with torch.no_grad():
        return 100 * float((model(images[1300:]).argmax(1) == labels[1300:]).float().mean())


first = torch.optim.Adam(model.parameters(), lr=5e-3)
for _ in range(8):
    train_epoch(model, first)
before = accuracy(model)

nncf_config = NNCFConfig.from_dict(
    {
        "input_info": {"sample_size": [1, 1, 8, 8]},
        "compression": {"algorithm": "magnitude_sparsity", "sparsity_init": 0.3},
        "accuracy_aware_training": {
            "mode": "adaptive_compression_level",
            "params": {
                "maximal_absolute_accuracy_degradation": 2.0,
                "initial_training_phase_epochs": 1,
                "patience_epochs": 1,
                "maximal_total_epochs": 5,
            },
        },
    }
)
controller, compressed = create_compressed_model(model, nncf_config)
is_known = isinstance(controller, MagnitudeSparsityController)


def train_epoch_fn(compression_ctrl, model, epoch, optimizer, **kwargs):
    compression_ctrl.scheduler.epoch_step()
    train_epoch(model, optimizer, compression_ctrl)


def validate_fn(model, epoch=0, **kwargs):
    return accuracy(model)


def configure_optimizers_fn():
    return torch.optim.Adam(compressed.parameters(), lr=3e-3), None


loop = create_accuracy_aware_training_loop(nncf_config, controller, before)
compressed = loop.run(
    compressed,
    train_epoch_fn=train_epoch_fn,
    validate_fn=validate_fn,
    configure_optimizers_fn=configure_optimizers_fn,
)
after, rate = accuracy(compressed), controller.compression_rate
