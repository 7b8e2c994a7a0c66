"""The example that tunes a compressed language model, on a small one: from text to OpenVINO and ONNX."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from examples.tune_lora_torch import Settings, batches, compressed, divergence, perplexity, tune
from torch import nn

import nncf
from nncf_core.numerics.packing import pack
from nncf_torch.places import places
from nncf_torch.stored import decode
from tests.backends.torch.language import VOCABULARY, language_model
from tests.backends.torch.test_onnx_export import stored_codes

INT2 = {"mode": "int2_sym", "group_size": 32}
SETTINGS = Settings(steps=100, batch=16, adapter_rate=3e-3, range_rate=1e-3, bfloat16=False, save_every=5)


def sentences(count, length=24, seed=0):
    """Each token follows from the one before it, but every eighth, which is any."""
    table = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, VOCABULARY, (count, length), generator=generator)
    for index in range(1, length):
        anything = torch.rand(count, generator=generator) < 1 / 8
        tokens[:, index] = torch.where(anything, tokens[:, index], table[tokens[:, index - 1]])
    return tokens


@pytest.fixture(scope="module")
def teacher():
    """A language model that has learnt what follows."""
    model = language_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for batch, _ in zip(batches(sentences(512), 64), range(150), strict=False):
        loss = nn.functional.cross_entropy(model(batch)[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def text():
    """Text to tune on, and other text to measure on."""
    return sentences(256, seed=1), sentences(64, seed=2)


def beginning(teacher, text, methods=("gptq",), **given):
    return compressed(teacher, [window[None] for window in text[0][:32]], 8, methods, **{**INT2, **given})


def far(model, teacher, windows):
    with torch.no_grad():
        return divergence(model(windows), teacher(windows)).item()


def test_the_divergence_is_that_of_its_definition():
    a, b = (torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed)).double() for seed in (0, 1))
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (b.numpy(), a.numpy()))
    assert divergence(a, b).item() == pytest.approx((p * np.log(p / q)).sum(-1).mean(), rel=1e-5)
    assert divergence(a, a).item() == pytest.approx(0, abs=1e-6)


def test_codes_that_others_chose_are_where_tuning_begins(teacher, text):
    chosen = nncf.strip(beginning(teacher, text), strip_format=nncf.StripFormat.DQ)
    nearest = nncf.strip(beginning(teacher, text, methods=()), strip_format=nncf.StripFormat.DQ)
    alone = beginning(teacher, text, compression_format="dequantize")
    for name, (codes, _) in stored_codes(alone).items():
        assert np.array_equal(codes, stored_codes(chosen)[name][0]), name
    assert far(chosen, teacher, text[1]) < 0.8 * far(nearest, teacher, text[1])


def test_tuning_takes_much_of_the_loss_away(teacher, text):
    model, (windows, other) = beginning(teacher, text), text
    before = far(model, teacher, other), perplexity(model, other)
    frozen = {n for n, p in model.named_parameters() if p.requires_grad}
    losses = tune(model, teacher, windows, SETTINGS)
    assert len(losses) == SETTINGS.steps
    assert far(model, teacher, other) < 0.6 * before[0]
    assert perplexity(model, other) < before[1]
    # the table in 8 bits was left alone
    assert {n for n, p in model.named_parameters() if p.requires_grad} < frozen


_PROCESS = """
import json, os, sys
import torch
import nncf
from examples.tune_lora_torch import tune
from pathlib import Path
from tests.backends.torch.language import Language
from tests.backends.torch.test_tuning import SETTINGS, sentences

folder = Path(sys.argv[1])
torch.set_num_threads(1)
if "RANK" in os.environ:
    torch.distributed.init_process_group("gloo")
teacher = Language().eval()
teacher.load_state_dict(torch.load(folder / "teacher.pt", weights_only=True))
model = nncf.torch.load_from_config(teacher, json.loads((folder / "config.json").read_text()))
model.load_state_dict(torch.load(folder / "start.pt", weights_only=True), assign=True)
losses = tune(model, teacher, sentences(256, seed=1), SETTINGS, folder / "tuning.pt")
(folder / f"losses_{os.environ.get('RANK', 0)}.json").write_text(json.dumps(losses))
"""


@pytest.fixture
def folder(teacher, text, tmp_path):
    """A model that is to be tuned, in files; losses of a tuning that nobody interrupts."""
    model, threads = beginning(teacher, text), torch.get_num_threads()
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    torch.save(model.state_dict(), tmp_path / "start.pt")
    (tmp_path / "config.json").write_text(json.dumps(nncf.torch.get_config(model)))
    (tmp_path / "process.py").write_text(_PROCESS)
    torch.set_num_threads(1)
    losses = tune(model, teacher, text[0], SETTINGS)
    torch.set_num_threads(threads)
    (tmp_path / "losses.json").write_text(json.dumps(losses))
    return tmp_path


def run_process(folder, *launcher):
    command = [sys.executable, "-W", "ignore", *launcher, str(folder / "process.py"), str(folder)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path, "."])})


def losses_of(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


class StoppedError(Exception):
    pass


@pytest.mark.slow
def test_a_fresh_process_goes_on_with_the_same_losses(teacher, text, folder):
    def stop(step, _):
        if step == 12:
            raise StoppedError

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.raises(StoppedError):
        tune(beginning(teacher, text), teacher, text[0], SETTINGS, folder / "tuning.pt", stop)
    torch.set_num_threads(threads)
    assert len(torch.load(folder / "tuning.pt", weights_only=True)["losses"]) == 10
    run_process(folder)
    assert losses_of(folder, "losses_0") == losses_of(folder, "losses")


@pytest.mark.slow
def test_two_processes_tune_as_one(folder):
    run_process(folder, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    first, second, alone = (losses_of(folder, name) for name in ("losses_0", "losses_1", "losses"))
    assert first == second
    # sums in another order, which rounding to codes makes more of
    np.testing.assert_allclose(first[:10], alone[:10], rtol=1e-3)
    np.testing.assert_allclose(first, alone, rtol=0.2)


def test_a_rank_is_searched_for(teacher, text):
    """One tuning of several ranks in turn; each of them is better than no adapters, and one is chosen."""
    model, (windows, other) = beginning(teacher, text, compression_format="fake_quantize_with_lora_nls"), text
    before, ranks = far(model, teacher, other), (2, 4, 8)
    picked = torch.Generator().manual_seed(0)

    def another(*_):
        nncf.torch.set_active_rank(model, ranks[int(torch.randint(len(ranks), (), generator=picked))])

    tune(model, teacher, windows, SETTINGS, tell=another)
    found = {}
    for rank in ranks:
        nncf.torch.set_active_rank(model, rank)
        found[rank] = far(model, teacher, other)
    assert max(found.values()) < 0.75 * before
    best = min(found, key=found.get)
    nncf.torch.set_active_rank(model, best)
    assert set(nncf.torch.active_ranks(model).values()) == {best}
    small = nncf.strip(model, strip_format=nncf.StripFormat.DQ)
    assert far(small, teacher, other) == pytest.approx(found[best], rel=1e-6)


@pytest.mark.needs("openvino", "onnxruntime", "onnxscript")
@pytest.mark.filterwarnings("ignore")
def test_openvino_and_onnx_have_the_codes_that_were_tuned(teacher, text, tmp_path):
    import openvino

    from tests.backends.torch.test_onnx_export import outputs

    model, (windows, other) = beginning(teacher, text, mode="int4_asym"), text
    tune(model, teacher, windows, Settings(steps=5, batch=8, bfloat16=False))
    small, given = nncf.strip(model, strip_format=nncf.StripFormat.DQ), other[:2]
    with torch.no_grad():
        wanted = model(given).numpy()
        assert np.array_equal(small(given).numpy(), wanted)
    converted = openvino.convert_model(small, example_input=given)
    constants = [op for op in converted.get_ops() if op.get_type_name() == "Constant"]
    found = {op.data.tobytes() for op in constants if op.get_element_type().get_type_name() == "u4"}
    tensors = [decode(place.stored, place.parts) for place in places(small).values() if place.stored is not None]
    fours = [tensor for tensor in tensors if tensor.format.bits == 4]
    assert len(fours) == 14
    assert all(tensor.codes.tobytes() in found for tensor in fours)
    exact = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "INFERENCE_PRECISION_HINT": "f32"}
    (logits,) = openvino.compile_model(converted, "CPU", exact)([given.numpy()]).values()
    np.testing.assert_allclose(logits, wanted, atol=2e-3 * np.abs(wanted).max())

    program = nncf.torch.export_onnx(small, (given,))
    program.save(tmp_path / "model.onnx")
    initializers = program.model.graph.initializers
    for name, (codes, tensor) in stored_codes(small).items():
        if tensor.format.bits == 4:
            kept = initializers[f"{name}_quantized"].const_value
            assert str(kept.dtype) == "UINT4"
            assert kept.tobytes() == pack(codes.astype(np.uint8), 4).tobytes()
    np.testing.assert_allclose(outputs(tmp_path / "model.onnx", given), wanted, atol=1e-4 * np.abs(wanted).max())
