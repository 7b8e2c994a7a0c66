"""optimum-intel with this project in place of nncf, on a model made from a config.

What optimum-intel requires does not fit what the other tests are pinned to, so that it is installed from the index into
an environment of its own; without an index the test is skipped.
"""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.fresh_env, pytest.mark.needs("torch", "openvino")]

_PINNED = ("transformers==5.5.4", "requests")
# its own requirements are nncf and frameworks, which are there, and torchvision, which nothing here needs
_ALONE = ("optimum==2.3.0", "optimum-intel==2.2.0")

_COMMON = """
import json, logging, sys
from collections import Counter
import numpy as np, torch
from transformers import LlamaConfig, LlamaForCausalLM
from optimum.intel import OVConfig, OVModelForCausalLM, OVQuantizationConfig, OVQuantizer, OVWeightQuantizationConfig
from optimum.intel.openvino.quantization import OVCalibrationDataset
import nncf, nncf_core

torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128)).save_pretrained("float")
ids = torch.arange(1, 33).reshape(1, 32)

def logits(model):
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits

def described(model, wanted):
    nodes = [node for node in model.model.get_ops() if node.get_type_name() == "Constant" and len(node.shape) > 1]
    kinds = Counter(node.get_element_type().to_string() for node in nodes)
    return {"kinds": kinds, "error": float((logits(model) - wanted).norm() / wanted.norm())}

def data(count=6):
    made = np.random.default_rng(0)
    return OVCalibrationDataset(nncf.Dataset([
        {"input_ids": made.integers(0, 256, (1, 24)), "attention_mask": np.ones((1, 24), np.int64),
         "position_ids": np.arange(24)[None], "beam_idx": np.zeros(1, np.int32)} for _ in range(count)]))

wanted = logits(OVModelForCausalLM.from_pretrained("float", export=True))
"""


@pytest.fixture(scope="module")
def optimum(environment_with):
    names = ("nncf", "nncf-openvino", "nncf-torch", "nncf-awq", "nncf-post-training-quantization")
    names += ("nncf-smooth-quant", "nncf-weight-compression", "nncf-weight-refinement")
    environment = environment_with(*names)
    python = str(environment.folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    for arguments in (_PINNED, ("--no-deps", *_ALONE)):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True)
        if "No matching distribution" in done.stderr:
            pytest.skip(f"no package index: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
    return environment


@pytest.fixture
def offline(optimum):
    def run(script, folder):
        return optimum.python(_COMMON + script, folder, HF_HUB_OFFLINE="1", HF_HOME=str(folder / "home"))

    return run


def test_weights_are_compressed_while_a_model_is_exported(offline, tmp_path):
    script = """
found = []
for config in (OVWeightQuantizationConfig(bits=8), OVWeightQuantizationConfig(bits=4, group_size=32, sym=True),
               OVWeightQuantizationConfig(bits=4, group_size=128, group_size_fallback="adjust")):
    model = OVModelForCausalLM.from_pretrained("float", export=True, quantization_config=config)
    model.save_pretrained("small")
    found.append(described(OVModelForCausalLM.from_pretrained("small"), wanted))
print(json.dumps([found, nncf.__file__ == nncf_core.__file__.replace("nncf_core", "nncf")]))
"""
    (int8, int4, adjusted), ours = offline(script, tmp_path)
    assert ours
    # 14 layers, the embedding and the head; weights with zero points have as many of these
    assert int8["kinds"]["u8"] == 2 * 16
    assert int4["kinds"]["i4"] == 14
    assert int4["kinds"]["u8"] == 2 * 2
    assert adjusted["kinds"]["u4"] == 2 * 14
    assert int8["error"] < 0.03 < int4["error"] < 0.12
    assert adjusted["error"] < 0.12


def test_data_aware_methods_and_quantization_run_on_a_model_with_state(offline, tmp_path):
    script = """
found = {}
for name, config in {
    "awq": OVWeightQuantizationConfig(bits=4, group_size=32, quant_method="awq", scale_estimation=True, num_samples=6),
    "gptq": OVWeightQuantizationConfig(bits=4, group_size=32, gptq=True, num_samples=6),
    "full": OVQuantizationConfig(num_samples=6),
}.items():
    model = OVModelForCausalLM.from_pretrained("float", export=True, compile=False)
    quantizer = OVQuantizer.from_pretrained(model)
    config = OVConfig(quantization_config=config)
    quantizer.quantize(calibration_dataset=data(), ov_config=config, save_directory=name)
    found[name] = described(OVModelForCausalLM.from_pretrained(name), wanted)
print(json.dumps(found))
"""
    found = offline(script, tmp_path)
    assert found["awq"]["kinds"]["u4"] == found["gptq"]["kinds"]["u4"] == 2 * 14
    assert found["full"]["kinds"]["i8"] == 16
    assert found["awq"]["error"] < 0.12
    assert found["gptq"]["error"] < 0.1
    # the codes of weights leave room for sums of 16 bits where a processor needs it
    assert found["full"]["error"] < 0.1


def test_a_language_model_writes_its_own_calibration_data(offline, tmp_path):
    script = """
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(256)}, unk_token="w0"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0")
model = AutoModelForCausalLM.from_pretrained("float")

def texts(**arguments):
    torch.manual_seed(0)
    return nncf.data.generate_text_data(model, tokenizer, **arguments)

found = texts(seq_len=12, dataset_size=6)
model.config.padded_vocab_size = 8
messages = []
for wrong in (lambda: texts(seq_len=4, dataset_size=2, unique_tokens_lower_limit=50), lambda: texts(dataset_size=0),
              lambda: nncf.data.generate_text_data(object(), tokenizer)):
    try:
        wrong()
    except nncf.NNCFError as error:
        messages.append(str(error))
del model.config.padded_vocab_size
print(json.dumps([found, found == texts(seq_len=12, dataset_size=6), messages]))
"""
    texts, again, messages = offline(script, tmp_path)
    assert [len(text.split()) for text in texts] == [12] * 6
    assert all(len(set(text.split())) >= 5 for text in texts)
    assert len(set(texts)) == 6
    assert again
    few, none, no_model = messages
    assert "0 of 2 texts" in few
    assert "dataset_size is 0" in none
    assert "generate()" in no_model
