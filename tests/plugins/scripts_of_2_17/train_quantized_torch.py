"""Quantization-aware training from an NNCFConfig, with checkpoints and export to ONNX."""

import json

import numpy as np
import torch
from torch import nn

import nncf.torch  # noqa: F401  - has to come early, said the guide
from nncf import NNCFConfig
from nncf.torch import create_compressed_model, load_state, register_default_init_args

torch.manual_seed(0)
data = np.load("digits.npz")
images, labels = torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images[:1300], labels[:1300]), batch_size=65)


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 4 * 4, 10)
    )  # fmt: skip


def train(model, epochs, controller=None):
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    criterion = nn.CrossEntropyLoss()
    for _ in range(epochs):
        if controller is not None:
            controller.scheduler.epoch_step()
        model.train()
        for inputs, targets in loader:
            if controller is not None:
                controller.scheduler.step()
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            if controller is not None:
                loss = loss + controller.loss()
            loss.backward()
            optimizer.step()
    model.eval()


def accuracy(model):
    with torch.no_grad():
        return float((model(images[1300:]).argmax(1) == labels[1300:]).float().mean())


model = network()
train(model, 4)
fp32_top1 = accuracy(model)

with open("config.json", "w") as file:
    json.dump(
        {
            "input_info": {"sample_size": [1, 1, 8, 8]},
            "target_device": "TRIAL",
            "compression": [
                {
                    "algorithm": "quantization",
                    "weights": {"bits": 4, "mode": "symmetric", "per_channel": True},
                    "activations": {"bits": 8, "mode": "asymmetric"},
                    "initializer": {"range": {"num_init_samples": 130}},
                },
                {"algorithm": "magnitude_sparsity", "params": {"schedule": "multistep", "multistep_steps": [1],
                                                               "multistep_sparsity_levels": [0.2, 0.5]}},
            ],
        },
        file,
    )  # fmt: skip
nncf_config = NNCFConfig.from_json("config.json")
nncf_config = register_default_init_args(nncf_config, loader)
compression_ctrl, compressed_model = create_compressed_model(model, nncf_config)
untuned_top1 = accuracy(compressed_model)
train(compressed_model, 3, compression_ctrl)
int4_top1 = accuracy(compressed_model)
statistics = compression_ctrl.statistics()
sparsity = statistics.magnitude_sparsity.model_statistics.sparsity_level_for_layers

torch.save(
    {
        "state_dict": compressed_model.state_dict(),
        "compression_state": json.dumps(compression_ctrl.get_compression_state()),
    },
    "checkpoint.pth",
)
checkpoint = torch.load("checkpoint.pth", weights_only=True)
resumed_ctrl, resumed_model = create_compressed_model(
    network(), nncf_config, compression_state=json.loads(checkpoint["compression_state"])
)
load_state(resumed_model, checkpoint["state_dict"], is_resume=True)
resumed_top1 = accuracy(resumed_model.eval())
compression_ctrl.export_model("digits_int4.onnx")
