"""Configs and scripts written for NNCF 2 tell layers of PyTorch modules by the names of its tracer."""

import pytest
import torch
from torch import nn

import nncf
from nncf.torch import create_compressed_model
from nncf_core.scopes import IgnoredScope, ignored_names

pytestmark = pytest.mark.needs("nncf_post_training_quantization", "nncf_quantization_aware_training")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Block(), Block())
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def names(graph, **scope):
    return sorted(ignored_names(graph, IgnoredScope(**scope)))


@pytest.mark.parametrize("example", [None, torch.ones(1, 3, 8, 8)], ids=["structure", "hooks"])
def test_names_have_the_classes_of_modules(example):
    graph = nncf.build_graph(Net(), example_input=example)
    assert names(graph, names=["Net/NNCFLinear[head]/linear_0"]) == ["head/linear/0"]
    second = "Net/Sequential[features]/Block[3]/NNCFConv2d[second]/conv2d_0"
    assert names(graph, names=[second]) == ["features/3/second/conv2d/0"]
    convolutions = [f"features/2/{name}/conv2d/0" for name in ("first", "second")]
    found = names(graph, patterns=[r".*Block\[2\]/NNCFConv2d"])
    assert found == convolutions
    with pytest.raises(nncf.ValidationError, match=r"did you mean.*NNCFLinear\[head\]"):
        names(graph, names=["Net/NNCFLinear[heads]/linear_0"])


def test_functions_of_a_forward_belong_to_its_module():
    graph = nncf.build_graph(Net(), example_input=torch.ones(1, 3, 8, 8))
    assert names(graph, names=["Net/Sequential[features]/Block[2]/relu_1"]) == ["features/2/relu/1"]
    assert names(graph, names=["Net/mean_0"]) == ["mean/0"]


def quantized_weights(model):
    return {name.removesuffix("_scale") for name, _ in model.named_parameters() if name.endswith("weight_scale")}


@pytest.mark.parametrize(
    ("section", "left"),
    [
        ({"ignored_scopes": ["Net/NNCFLinear[head]/linear_0"]}, {"head.weight"}),
        (
            {"ignored_scopes": ["{re}Net/Sequential\\[features\\]/Block\\[3\\].*"]},
            {"features.3.first.weight", "features.3.second.weight"},
        ),
        ({"weights": {"ignored_scopes": ["{re}.*Block\\[2\\]/NNCFConv2d\\[first\\].*"]}}, {"features.2.first.weight"}),
    ],
)
def test_scopes_of_a_training_config(section, left):
    torch.manual_seed(0)
    config = nncf.NNCFConfig.from_dict(
        {"input_info": {"sample_size": [1, 3, 8, 8]}, "compression": {"algorithm": "quantization", **section}}
    )
    nncf.torch.register_default_init_args(config, [torch.rand(4, 3, 8, 8) for _ in range(2)])
    _, model = create_compressed_model(Net().eval(), config)
    every = {name for name, parameter in Net().named_parameters() if parameter.dim() > 1}
    assert quantized_weights(model) == every - left


def test_activations_are_told_by_them():
    torch.manual_seed(0)
    scope = "Net/Sequential[features]/NNCFConv2d[0]/conv2d_0"
    override = {"group": "activations", "names": [scope], "quantize": False}
    from nncf_core.pipeline import run

    data = nncf.Dataset([torch.rand(1, 3, 8, 8) for _ in range(2)])
    ranges = []
    for overrides in ([], [override]):
        config = {"compression": {"algorithm": "post_training_quantization", "overrides": overrides}}
        model = run(config, Net().eval(), dataset=data).model
        ranges.append({name for name in model.state_dict() if "input_0" in name and name.startswith("features.0.")})
    assert ranges[0]
    assert not ranges[1]


@pytest.mark.needs("nncf_weight_compression")
def test_weights_are_left_by_them():
    scope = nncf.IgnoredScope(names=["Net/NNCFLinear[head]/linear_0"])
    small = nncf.compress_weights(Net(), nncf.CompressWeightsMode.INT8_ASYM, None, None, scope)
    assert "head.weight" in small.state_dict()
    assert "features.0.weight_codes" in small.state_dict()
