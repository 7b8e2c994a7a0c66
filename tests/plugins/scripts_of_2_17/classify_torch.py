"""Post-training quantization of a PyTorch classifier, which becomes an OpenVINO and an ONNX model."""

import numpy as np
import openvino as ov
import torch
from torch import nn

import nncf
from nncf.torch import disable_tracing, get_config, load_from_config

torch.manual_seed(0)
data = np.load("digits.npz")
images, labels = torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(16 * 4 * 4, 10)

    def centred(self, x):
        return x - 0.5

    def forward(self, x):
        return self.head(self.features(self.centred(x)).flatten(1))


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for _ in range(5):
    for chosen in torch.randperm(1300).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
model.eval()
disable_tracing(model.centred)

loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images[:320], labels[:320]), batch_size=16)
calibration_dataset = nncf.Dataset(loader, lambda data_item: data_item[0])
quantized_model = nncf.quantize(model, calibration_dataset, subset_size=20, fast_bias_correction=True)

torch.save({"weights": quantized_model.state_dict(), "config": get_config(quantized_model)}, "checkpoint.pt")
checkpoint = torch.load("checkpoint.pt", weights_only=True)
restored = load_from_config(model, checkpoint["config"], images[:1])
restored.load_state_dict(checkpoint["weights"])

stripped = nncf.strip(quantized_model, strip_format=nncf.StripFormat.NATIVE, example_input=images[:1])
ov_model = ov.convert_model(stripped, example_input=images[:1], input=[-1, 1, 8, 8])
ov.save_model(ov_model, "torch_int8.xml")
compiled = ov.compile_model("torch_int8.xml", "CPU")


def accuracy(run):
    with torch.no_grad():
        return float((torch.as_tensor(run(images[1300:])).argmax(1) == labels[1300:]).float().mean())


fp32_top1 = accuracy(model)
int8_top1 = accuracy(restored)
int8_openvino_top1 = accuracy(lambda x: compiled(x.numpy())[0])
with torch.no_grad():
    same = torch.equal(restored(images[:8]), quantized_model(images[:8]))
