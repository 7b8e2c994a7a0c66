"""ONNX models of compressed modules: the very codes, and in onnxruntime the outputs of PyTorch."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

import nncf
from nncf_core.numerics.packing import unpack
from nncf_torch.places import places
from nncf_torch.stored import decode
from tests.backends.torch.language import language_model, text
from tests.backends.torch.models import normal, sequential
from tests.variants import variants

pytestmark = [pytest.mark.needs("onnxruntime", "onnxscript"), pytest.mark.filterwarnings("ignore")]
Mode = nncf.CompressWeightsMode
AXES = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("length")},)


def compressed(mode=Mode.INT4_ASYM, **given):
    groups = {} if mode in (Mode.INT8_ASYM, Mode.INT8_SYM) else {"group_size": 32}
    return nncf.compress_weights(language_model(), mode=mode, **groups, **given)


def stored_codes(model):
    """Unpacked codes [rows, columns] of each weight, by all its names."""
    found = {}
    for place in places(model).values():
        if place.stored is not None:
            tensor = decode(place.stored, place.parts)
            signed = tensor.format.lo < 0
            codes = unpack(tensor.codes, tensor.format.bits, np.prod(tensor.shape), signed).reshape(tensor.shape)
            for path, module in model.named_modules():
                for owner, attribute in place.owners:
                    if module is owner:
                        found[f"{path}.{attribute}"] = codes, tensor
    return found


def outputs(path, tokens):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: tokens.numpy()})[0]


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize(
    "mode", variants([Mode.INT4_ASYM, Mode.INT4_SYM, Mode.INT8_ASYM, Mode.INT8_SYM], Mode.INT4_ASYM), ids=str
)
def test_initializers_are_the_codes_bit_for_bit(mode, optimize, tmp_path):
    import onnx
    from onnx.numpy_helper import to_array

    small, tokens = compressed(mode), text(2, 7)
    program = nncf.torch.export_onnx(small, (tokens,), dynamic_shapes=AXES, optimize=optimize)
    program.save(tmp_path / "model.onnx")
    initializers = {each.name: each for each in onnx.load(tmp_path / "model.onnx").graph.initializer}
    wanted, seen = stored_codes(small), 0
    for name, (codes, tensor) in wanted.items():
        if f"{name}_quantized" not in initializers:
            assert name in ("embedding.weight", "head.weight")
            continue
        found = initializers[f"{name}_quantized"]
        bits = 4 if found.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4) else 8
        assert bits == tensor.format.bits
        np.testing.assert_array_equal(to_array(found).astype(np.int64), codes)
        scale = to_array(initializers[f"{name}_scale"]).astype(np.float32)
        np.testing.assert_array_equal(scale.reshape(-1), np.asarray(tensor.scale, np.float32).reshape(-1))
        seen += 1
    # a table that is embedding and head is there once
    assert seen == len(wanted) - 1
    # nothing of a weight's size is a float
    floats = [each.name for each in initializers.values() if each.data_type == 1 and np.prod(each.dims) > 1024]
    assert floats == []
    with torch.no_grad():
        # another length than the one that was exported
        for given in (tokens, text(3, 11, seed=1)):
            np.testing.assert_allclose(outputs(tmp_path / "model.onnx", given), small(given), rtol=1e-4, atol=1e-4)


def test_onnxruntimes_own_operators(tmp_path):
    small, tokens = compressed(Mode.INT4_SYM), text(2, 7)
    program = nncf.torch.export_onnx(small, (tokens,), weight_format="matmul_nbits")
    kinds = [node.op_type for node in program.model.graph]
    # 7 of each block
    assert kinds.count("MatMulNBits") == 14
    program.save(tmp_path / "model.onnx")
    with torch.no_grad():
        wanted = small(tokens).numpy()
    # activations are rounded to 8 bits
    assert np.abs(outputs(tmp_path / "model.onnx", tokens) - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("mode", [Mode.NF4, Mode.FP4, Mode.FP8_E4M3, Mode.INT2_SYM], ids=str)
def test_other_formats(mode, tmp_path):
    small, x = nncf.compress_weights(sequential(), mode=mode, group_size=32), normal(3, 64)
    opset = 25 if mode is Mode.INT2_SYM else 21
    program = nncf.torch.export_onnx(small, (x,), **({} if opset == 21 else {"opset_version": opset}))
    program.save(tmp_path / "model.onnx")
    with torch.no_grad():
        np.testing.assert_allclose(outputs(tmp_path / "model.onnx", x), small(x), rtol=1e-4, atol=1e-4)


def test_activations_are_rounded_only_where_that_is_asked_for(tmp_path):
    small, x = nncf.compress_weights(sequential(), mode=Mode.INT2_SYM, group_size=32), normal(3, 64)
    program = nncf.torch.export_onnx(small, (x,))
    assert "MatMulNBits" in {node.op_type for node in program.model.graph}
    program.save(tmp_path / "model.onnx")
    with torch.no_grad():
        np.testing.assert_allclose(outputs(tmp_path / "model.onnx", x), small(x), rtol=1e-4, atol=1e-4)


def test_the_given_model_stays_compressed_and_inputs_stay_its_own():
    small, tokens = compressed(), text(2, 7)
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    program = nncf.torch.export_onnx(small, (tokens,))
    assert len(program.model.graph.inputs) == 1
    after = small.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_nothing_is_logged_of_each_weight(caplog):
    with caplog.at_level(logging.WARNING):
        nncf.torch.export_onnx(compressed(), (text(2, 7),))
    assert not [record for record in caplog.records if "weight" in record.getMessage()]


def test_what_is_refused():
    with pytest.raises(nncf.UnsupportedModelError, match=r"strip_format=nncf\.StripFormat\.DQ"):
        nncf.torch.export_onnx(compressed(compression_format=nncf.CompressionFormat.FQ), (text(2, 7),))
    with pytest.raises(nncf.UnsupportedModelError, match=r"no torch\.nn\.Module"):
        nncf.torch.export_onnx(object(), ())
    three = nncf.compress_weights(sequential(), mode=Mode.INT3_SYM, group_size=32)
    with pytest.raises(nncf.ParameterNotSupportedError, match="knows no int3"):
        nncf.torch.export_onnx(three, (normal(3, 64),))
