"""What the Python blocks of the documentation take for granted, and what is true after they have run."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "plugins").glob("*/README.md")),
    *sorted((ROOT / "plugins/algorithms").glob("*/README.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page in a language, in order."""
    found = re.findall(r"^```(.*?)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [code for known, code in found if known == language]


@frozen
class Story:
    """Blocks of a page that belong together, as one script.

    :param page: path of the page.
    :param numbers: of its Python blocks.
    :param needs: packages that it imports.
    :param before: code that a reader has already.
    :param after: code that checks what came of it.
    """

    page: str
    numbers: tuple[int, ...]
    needs: tuple[str, ...]
    before: str = ""
    after: str = ""

    @property
    def script(self) -> str:
        """The whole of it."""
        found = blocks(ROOT / self.page, "python")
        return "\n".join([self.before, *(found[number] for number in self.numbers), self.after])


_TORCH = """
import json, random
import numpy as np, torch, nncf, nncf.torch
from torch import nn
torch.manual_seed(0)
"""

_MLP = (
    _TORCH
    + """
class Model(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
model = Model().eval()
"""
)

_CONVOLUTIONS = (
    _TORCH
    + """
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, stride=4), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=4), nn.ReLU(),
    nn.Conv2d(32, 16, 3), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
)
data = [(torch.randn(2, 3, 224, 224), torch.randint(10, (2,))) for _ in range(2)]
loader = torch.utils.data.DataLoader([(x[0], int(y[0])) for x, y in data], batch_size=2)
criterion = nn.functional.cross_entropy
"""
)

_LANGUAGE = (
    _TORCH
    + """
import warnings
import nncf_core.pipeline, openvino
warnings.filterwarnings("ignore", "`torch.jit")  # which OpenVINO calls
warnings.filterwarnings("ignore", "`isinstance")  # in PyTorch
class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 64)
        self.layers = nn.ModuleList([nn.ModuleDict({"q": nn.Linear(64, 128), "o": nn.Linear(128, 64)})])
        self.head = nn.Linear(64, 100)
    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = x + layer["o"](torch.relu(layer["q"](x)))
        return self.head(x)
float_model = Language().eval()
samples = text = [torch.randint(100, (1, 12)) for _ in range(4)]
def divergence(found, wanted):
    return nn.functional.kl_div(found.log_softmax(-1), wanted.log_softmax(-1), log_target=True, reduction="batchmean")
"""
)

_DIGITS = """
import numpy as np, onnx, nncf
from sklearn.datasets import load_digits
model = onnx.load("digits.onnx")
images, labels = load_digits(return_X_y=True)
images = images.astype(np.int64)
"""

_GUIDE = """
import sys
import numpy as np, nncf
from nncf_core.pipeline import run
from nncf_core.registry import registry
from tests.backends.onnx import models
registry().register(sys.modules[__name__], "guide")
weight = models.random(64, 32)
"""

STORIES = (
    Story("README.md", (0,), ("nncf_onnx", "nncf_weight_compression"), after="""
from pathlib import Path
assert Path("small.onnx").stat().st_size < 0.3 * Path("models/digits_transformer.onnx").stat().st_size
"""),
    Story("docs/accuracy_control.md", (0,), ("nncf_onnx", "nncf_post_training_quantization", "nncf_accuracy_control"),
          _DIGITS + """
name = model.graph.input[0].name
labelled = [({name: image[None]}, label) for image, label in zip(images[:64], labels[:64])]
samples = [feed for feed, _ in labelled[:16]]
""", """
import onnxruntime
run = lambda model: onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
assert accuracy(run(quantized), labelled) >= accuracy(run(model), labelled) - 0.01
assert any(node.op_type == "QuantizeLinear" for node in quantized.graph.node)
"""),
    Story("docs/filter_pruning.md", (0,), ("nncf_torch", "nncf_filter_pruning"), _CONVOLUTIONS, """
import onnx
(last,) = [weight for weight in onnx.load("pruned.onnx").graph.initializer if weight.dims[1:] == [32, 3, 3]]
assert last.dims[0] == 8  # of 16; the others are the first one and one with strides
"""),
    Story("docs/filter_pruning.md", (1,), ("nncf_torch", "nncf_filter_pruning"), _CONVOLUTIONS + """
config = nncf.NNCFConfig.from_dict({
    "input_info": {"sample_size": [1, 3, 224, 224]},
    "compression": {"algorithm": "filter_pruning", "params": {
        "pruning_target": 0.5, "interlayer_ranking_type": "learned_ranking",
        "legr_params": {"generations": 2, "train_steps": 1},
    }},
})
seen, train_loader, val_loader = [], loader, loader
def steps(loader, model, optimizer, steps):
    for _, (x, y) in zip(range(steps), loader):
        optimizer.zero_grad(); criterion(model(x), y).backward(); optimizer.step()
def validate(model, loader):
    seen.append(float(np.mean([(model(x).argmax(1) == y).float().mean().item() for x, y in loader])))
    return seen[-1]
""", """
nncf.torch.create_compressed_model(model, config)
assert seen
"""),
    Story("docs/lora_tuning.md", (0,), ("nncf_torch", "nncf_openvino", "nncf_weight_refinement"), _LANGUAGE, """
def elements(model):
    return {op.get_element_type().get_type_name() for op in model.get_ops() if op.get_type_name() == "Constant"}
import onnx
assert "u4" in elements(openvino.Core().read_model("model.xml"))
assert any(w.data_type in (onnx.TensorProto.UINT4, onnx.TensorProto.INT4, onnx.TensorProto.UINT8)
           for w in onnx.load("model.onnx").graph.initializer)
"""),
    Story("docs/lora_tuning.md", (1,), ("nncf_torch", "nncf_weight_compression"), _LANGUAGE + """
advanced = nncf.AdvancedCompressionParameters(lora_adapter_rank=32)
model = nncf.compress_weights(
    float_model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=64, dataset=nncf.Dataset(samples), all_layers=True,
    compression_format=nncf.CompressionFormat.FQ_LORA_NLS, advanced_parameters=advanced,
)
def train(model, batch):
    model(batch).square().mean().backward()
@torch.no_grad()
def measure(model):
    return float(divergence(model(text[0]), float_model(text[0])))
""", "assert set(nncf.torch.active_ranks(model).values()) == {min(found, key=found.get)}\n"),
    Story("docs/low_rank_correction.md", (0,), ("nncf_torch", "nncf_weight_refinement"), _MLP + """
model = nn.Sequential(model, nn.Linear(10, 10))
dataset = nncf.Dataset([torch.randn(32, 64) for _ in range(4)])
"""),
    Story("docs/plugins.md", (0, 2), ("nncf_onnx",), after=_GUIDE + """
result = run({"compression": {"algorithm": "weight_clipping", "k": 1.0}}, models.matmul(weight))
(stored,) = result.model.graph.initializer
assert np.isclose(np.abs(np.frombuffer(stored.raw_data, np.float32)).max(), weight.std(), rtol=1e-6)
assert result.report.entries[0].reason.startswith("clipped to")
from pathlib import Path
from nncf_core.testing.suite import check
from tests.docs.blocks import ROOT, blocks
registry().unregister("guide")
Path("guide.py").write_text(blocks(ROOT / "docs/plugins.md", "python")[0])
import guide
TestWeightClipping.plugin = guide
outcomes = check(TestWeightClipping)
assert len([outcome for outcome in outcomes if not outcome.skipped]) > 5
failed = [outcome for outcome in outcomes if outcome.error]
assert not failed, failed
"""),
    Story("docs/plugins.md", (1,), ("nncf_onnx", "nncf_weight_compression"), after=_GUIDE + """
weight[5] = 20.0 * np.sign(weight[5])  # large where inputs are small
data = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
data[:, 5] *= 1e-3
section = {"algorithm": "weight_compression", "mode": "int4_sym", "group_size": 64, "all_layers": True}
config = {"compression": [section, {"algorithm": "clipping", "part": 0.5}]}
result = run(config, models.matmul(weight), dataset=nncf.Dataset([data]))
assert [entry.reason for entry in result.report.entries] == ["clipped"]
"""),
    Story("docs/plugins.md", (3,), ("nncf_onnx", "nncf_weight_compression"), after=_GUIDE + """
found = {}
for mode in ("int4_sym", "int8_sym"):
    small = nncf.compress_weights(models.matmul(weight), mode=nncf.CompressWeightsMode(mode),
                                  **({"all_layers": True, "group_size": 64} if mode == "int4_sym" else {}))
    stripped = nncf.strip(small, strip_format="float_below_8_bits")
    found[mode] = "DequantizeLinear" in {node.op_type for node in stripped.graph.node}
assert found == {"int4_sym": False, "int8_sym": True}
"""),
    Story("docs/post_training_quantization.md", (0,), ("nncf_onnx", "nncf_post_training_quantization"), _DIGITS + """
samples = images[:16]
def transform_func(image):
    return {model.graph.input[0].name: image[None]}
""", "assert any(node.op_type == 'QuantizeLinear' for node in quantized.graph.node)\n"),
    Story("docs/post_training_quantization.md", (1,), ("nncf_onnx", "nncf_post_training_quantization"),
          after="assert any(node.op_type == 'QuantizeLinear' for node in quantized.graph.node)\n"),
    Story("docs/quantization_aware_training.md", (0,), ("nncf_torch", "nncf_quantization_aware_training"),
          _CONVOLUTIONS + "epochs = 1\n", """
import onnx
assert any(node.op_type == "QuantizeLinear" for node in onnx.load("model.onnx").graph.node)
"""),
    Story("docs/quick_start.md", (0,), ("nncf_onnx", "nncf_weight_compression"),
          after="from pathlib import Path\nassert list(Path().glob('small.*'))\n"),
    Story("docs/quick_start.md", (1,), ("nncf_openvino", "nncf_weight_compression"), """
import openvino
openvino.save_model(openvino.convert_model("model.onnx"), "model.xml")
""", "from pathlib import Path\nassert list(Path().glob('small.*'))\n"),
    Story("docs/quick_start.md", (2,), ("nncf_torch", "nncf_weight_compression"),
          after="from pathlib import Path\nassert list(Path().glob('small.*'))\n"),
    Story("docs/quick_start.md", (3,), ("nncf_onnx", "nncf_post_training_quantization"),
          after="from pathlib import Path\nassert Path('quantized.onnx').exists()\n"),
    Story("docs/torch.md", (0,), ("nncf_torch", "nncf_weight_compression"), _MLP,
          "assert small.state_dict()['2.weight_codes'].numel() == 128 * 64 // 2\n"),
    Story("docs/torch.md", (1,), ("nncf_torch", "nncf_post_training_quantization"), _MLP + """
x = torch.randn(64, 64)
dataset = nncf.Dataset(list(x.split(16)))
""", "assert not torch.equal(quantized(x), model(x)) and torch.allclose(quantized(x), model(x), atol=0.1)\n"),
    Story("docs/torch.md", (2,), ("nncf_torch", "nncf_weight_compression"), after="""
assert losses[-1] < 0.3 * losses[0], losses
assert torch.equal(small(data), trained(data))
assert '0.weight_codes' in small.state_dict()
"""),
    Story("docs/torch.md", (3,), ("nncf_torch", "nncf_weight_compression"),
          _MLP + "small = nncf.compress_weights(model)\n",
          "assert torch.equal(restored.eval()(torch.ones(1, 64)), small(torch.ones(1, 64)))\n"),
    Story("docs/training.md", (0, 1), ("nncf_torch", "nncf_magnitude_sparsity", "nncf_knowledge_distillation"),
          after="""
assert controller.compression_rate > 0.59
assert torch.equal(used.eval()(data), compressed.eval()(data))
"""),
    Story("plugins/algorithms/awq/README.md", (0,), ("nncf_torch", "nncf_awq", "nncf_weight_compression"), _MLP + """
dataset = nncf.Dataset([torch.randn(32, 64) for _ in range(4)])
"""),
)  # fmt: skip
"""Every Python block of every page is in one of them, which the tests check."""
