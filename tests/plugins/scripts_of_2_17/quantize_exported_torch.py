"""Quantization of what torch.export gives: nncf.quantize, and quantize_pt2e with OpenVINO's quantizer."""

import numpy as np
import torch
from torch import nn

import nncf
from nncf.experimental.torch.fx import OpenVINOQuantizer, quantize_pt2e

torch.manual_seed(0)
data = np.load("digits.npz")
images, labels = torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 4 * 4, 10)
)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for _ in range(4):
    for chosen in torch.randperm(1300).split(65):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
model.eval()

dynamic = ({0: torch.export.Dim("batch")},)
exported = torch.export.export(model, (images[:4],), dynamic_shapes=dynamic).module()
calibration_dataset = nncf.Dataset([images[i : i + 8] for i in range(0, 160, 8)])
quantized = nncf.quantize(exported, calibration_dataset)

quantizer = OpenVINOQuantizer(preset=nncf.QuantizationPreset.MIXED, target_device=nncf.TargetDevice.CPU)
quantizer.set_ignored_scope(types=["linear"])
annotated = quantize_pt2e(exported, quantizer, calibration_dataset, subset_size=10, fast_bias_correction=None)


def accuracy(module):
    with torch.no_grad():
        return float((module(images[1300:]).argmax(1) == labels[1300:]).float().mean())


fp32_top1, int8_top1, pt2e_top1 = accuracy(model), accuracy(quantized), accuracy(annotated)
quantizers = [
    sum("quantize_per" in str(node.target) for node in module.graph.nodes) for module in (quantized, annotated)
]
