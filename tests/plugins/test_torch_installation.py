"""Only the PyTorch backend and weight compression are installed, without what torch itself does not need."""

import pytest

pytestmark = pytest.mark.fresh_env


@pytest.fixture(scope="module")
def torch_only(environment_with):
    return environment_with("nncf-torch", "nncf-weight-compression")


def test_nothing_loads_torch_before_it_is_needed(torch_only, tmp_path):
    script = """
import importlib.util as u, json, sys
import nncf
from nncf_core.registry import registry
builder = registry().backends["torch"].builder
absent = [m for m in ("onnx", "onnxruntime", "openvino", "torchao", "safetensors") if u.find_spec(m) is None]
print(json.dumps([absent, builder.accepts(object()), "torch" in sys.modules]))
"""
    absent, accepted, loaded = torch_only.python(script, tmp_path)
    assert absent == ["onnx", "onnxruntime", "openvino", "torchao", "safetensors"]
    assert not accepted
    assert not loaded


def test_modules_are_compressed_saved_and_compiled(torch_only, tmp_path):
    script = """
import json, nncf, torch
from torch import nn
torch.manual_seed(0)
def net():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).eval()
model, x = net(), torch.ones(2, 64)
before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
small = nncf.compress_weights(model, nncf.CompressWeightsMode.INT4_SYM, group_size=32, dataset=nncf.Dataset([x]))
torch.save(small.state_dict(), "weights.pt")
config = json.loads(json.dumps(nncf.torch.get_config(small)))
restored = nncf.torch.load_from_config(net(), config)
restored.load_state_dict(torch.load("weights.pt", weights_only=True))
with torch.no_grad():
    compiled = torch.compile(small, fullgraph=True, backend="eager")(x)
    same = [torch.equal(restored(x), small(x)), torch.allclose(compiled, small(x))]
same.append(torch.equal(nncf.strip(small, strip_format=nncf.StripFormat.IN_PLACE)(x), small(x)))
untouched = all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
print(json.dumps([same, untouched, sorted(small.state_dict())]))
"""
    same, untouched, names = torch_only.python(script, tmp_path)
    assert same == [True, True, True]
    assert untouched
    assert names == [
        "0.bias", "0.weight_codes", "0.weight_scale",
        "2.bias", "2.weight_codes", "2.weight_scale", "2.weight_zero_point",
    ]  # fmt: skip


def test_the_command_compresses_programs(torch_only, tmp_path):
    script = """
import json, torch
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)).eval()
torch.export.save(torch.export.export(model, (torch.ones(2, 64),)), "model.pt2")
print(json.dumps(None))
"""
    torch_only.python(script, tmp_path)
    arguments = ("compress-weights", "model.pt2", "-o", "small.pt2", "--mode", "int4_sym", "--group-size", "32")
    done = torch_only.execute("nncf", *arguments, "--all-layers", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    script = """
import json, torch
program = torch.export.load("small.pt2")
print(json.dumps([sorted(program.state_dict), list(program.module()(torch.ones(2, 64)).shape)]))
"""
    names, shape = torch_only.python(script, tmp_path)
    assert names == ["0.bias", "0.weight_codes", "0.weight_scale", "1.bias", "1.weight_codes", "1.weight_scale"]
    assert shape == [2, 64]
