"""How compressed weights are stored, and that they mean what the numerics say, in every mode."""

import numpy as np
import pytest
import torch
from torch import nn

import nncf
from nncf import CompressWeightsMode as Mode
from nncf_core.numerics.formats import scheme_for
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.numerics.packing import unpack
from nncf_core.registry import registry
from tests.backends.torch.models import Convolutions, Tied, normal, seeded, sequential

WHOLE_CHANNELS = {"int8_asym", "int8_sym", "cb4", "codebook"}
FIXED = {"mxfp4": 32, "mxfp8_e4m3": 32, "nvfp4": 16}
MODES = [m for m in Mode if m.value not in ("int8", "adaptive_codebook")]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def settings(mode):
    """Arguments that bring every layer to the mode's format."""
    given = {"mode": mode}
    if not mode.value.startswith("int8"):
        given["all_layers"] = True
    if mode.value not in WHOLE_CHANNELS | FIXED.keys():
        given["group_size"] = 32
    if mode.value == "codebook":
        table = np.linspace(-1, 1, 16, dtype=np.float32)
        given["advanced_parameters"] = nncf.AdvancedCompressionParameters(codebook=table)
    return given


def constants_of(model):
    builder = registry().backends["torch"].builder
    return builder.build(builder.open(model, {})).constants


def expected(weight, mode, axes=(1,)):
    """The weight in the mode, by the numerics alone."""
    size = FIXED.get(mode.value, -1 if mode.value in WHOLE_CHANNELS else 32)
    return compress(
        weight,
        scheme_for(mode.value),
        reduction_axes=axes,
        group_axis=None if size == -1 else axes[-1],
        group_size=size,
        codebook=np.linspace(-1, 1, 16, dtype=np.float32) if mode.value == "codebook" else None,
    )


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_every_mode_decompresses_to_what_the_numerics_say(mode):
    model = sequential()
    small = nncf.compress_weights(model, **settings(mode))
    x = normal(3, 64, seed=9)
    plain = sequential()
    for name in ("0", "2", "4"):
        weight = model.get_submodule(name).weight.detach().numpy()
        wanted = expected(weight, mode)
        assert small.get_submodule(name).weight.numpy().tobytes() == decompress(wanted).tobytes()
        stored = constants_of(small)[f"{name}.weight"].compressed()
        assert stored.codes.tobytes() == wanted.codes.tobytes()
        assert stored.scale.tobytes() == wanted.scale.tobytes()
        assert stored.scale.dtype == wanted.scale.dtype
        assert (stored.zero_point is None) == (wanted.zero_point is None)
        if wanted.zero_point is not None:
            assert np.array_equal(stored.zero_point, wanted.zero_point)
        plain.get_submodule(name).weight.data = torch.from_numpy(decompress(wanted))
    assert torch.equal(small(x), plain(x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", [Mode.INT8_ASYM, Mode.INT4_SYM, Mode.MXFP4], ids=str)
def test_weights_keep_their_element_type(mode, dtype):
    small = nncf.compress_weights(sequential(dtype), **settings(mode))
    assert small[0].weight.dtype == dtype
    x = normal(3, 64, seed=9).to(dtype)
    assert small(x).dtype == dtype
    plain = sequential(dtype)
    for name in ("0", "2", "4"):
        constant = constants_of(plain)[f"{name}.weight"]
        values = decompress(expected(constant.read(), mode)).astype(np.float64)
        assert np.array_equal(small.get_submodule(name).weight.double().numpy(), values)
        plain.get_submodule(name).weight.data = torch.from_numpy(values).to(dtype)
    assert torch.equal(small(x), plain(x))


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.float16, "half"), (torch.bfloat16, "bfloat16"), (torch.float64, "double")]
)
def test_casts_mean_the_weight_and_not_its_codes(dtype, name):
    small = nncf.compress_weights(sequential(), **settings(Mode.FP8_E4M3))
    before = small[0].weight
    buffers = {key: value.clone() for key, value in small[0].named_buffers()}
    cast = getattr(small, name)()
    assert cast[0].weight.dtype == dtype
    assert torch.equal(cast[0].weight, before.to(dtype))
    assert all(torch.equal(value, buffers[key]) for key, value in cast[0].named_buffers())


class TestStorage:
    def test_four_bits_take_half_a_byte(self):
        small = nncf.compress_weights(sequential(), Mode.INT4_ASYM, group_size=32, all_layers=True)
        layer = small[0]
        assert layer.weight_codes.dtype == torch.uint8
        assert layer.weight_codes.shape == (128, 32)
        assert layer.weight_scale.dtype == torch.float16
        assert layer.weight_scale.shape == (128, 2, 1)
        assert layer.weight_zero_point.numel() == 128
        low, high = layer.weight_codes & 15, layer.weight_codes >> 4
        codes = torch.stack((low, high), -1).reshape(128, 2, 32).float()
        zero_point = torch.from_numpy(unpack(layer.weight_zero_point.numpy(), 4, 256, False).copy())
        by_hand = (codes - zero_point.reshape(128, 2, 1)) * layer.weight_scale.float()
        assert torch.equal(by_hand.reshape(128, 64), layer.weight)

    def test_the_rest_of_the_state_dict_keeps_its_names(self):
        model = seeded(Convolutions())
        small = nncf.compress_weights(model)
        compressed = {"conv.weight", "depthwise.weight", "up.weight", "grouped.weight"}
        rest = [name for name in model.state_dict() if name not in compressed]
        added = {f"{name}_{part}" for name in compressed for part in ("codes", "scale", "zero_point")}
        assert set(small.state_dict()) == {*rest, *added}

    def test_classes_are_still_the_users(self):
        small = nncf.compress_weights(Tied())
        assert type(small) is Tied
        assert isinstance(small.head, nn.Linear)
        assert "Linear(in_features=64" in repr(small.head)

    def test_compressed_weights_cannot_be_overwritten_by_accident(self):
        small = nncf.compress_weights(sequential())
        for value in (torch.zeros(1), nn.Parameter(torch.zeros(1))):
            with pytest.raises(AttributeError, match="is compressed"):
                small[0].weight = value

    def test_convolutions_share_a_scale_for_each_output_channel(self):
        model = seeded(Convolutions())
        small = nncf.compress_weights(model)
        assert small.conv.weight_scale.shape == (32, 1, 1, 1)
        assert small.up.weight_scale.shape == (1, 16, 1, 1)
        assert small.grouped.weight_scale.shape == (16, 1, 1, 1)
        x = normal(2, 3, 8, 8)
        assert torch.allclose(small(x), model(x), atol=0.1)

    def test_odd_widths_are_padded(self):
        model = seeded(nn.Sequential(nn.Linear(33, 7, bias=False)))
        small = nncf.compress_weights(model, Mode.INT4_SYM, group_size=-1, all_layers=True)
        assert small[0].weight_codes.numel() == (33 * 7 + 1) // 2
        wanted = compress(model[0].weight.detach().numpy(), scheme_for("int4_sym"), reduction_axes=1)
        assert small[0].weight.numpy().tobytes() == decompress(wanted).tobytes()
        assert constants_of(small)["0.weight"].compressed().codes.tobytes() == wanted.codes.tobytes()


class TestSharing:
    def test_a_tied_weight_is_compressed_once(self):
        model = seeded(Tied())
        small = nncf.compress_weights(model)
        assert small.embedding.weight_codes is small.head.weight_codes
        assert small.embedding.weight_scale is small.head.weight_scale
        assert len([c for c in constants_of(small).values() if c.compressed_format]) == 2
        tokens = torch.arange(6)[None]
        assert torch.allclose(small(tokens), model(tokens), atol=0.1)

    def test_weights_on_one_memory_stay_so(self):
        model = seeded(Tied())
        model.head.weight = nn.Parameter(model.embedding.weight.detach())
        small = nncf.compress_weights(model)
        assert small.embedding.weight_codes is small.head.weight_codes

    def test_the_given_model_is_not_changed(self):
        model = seeded(Convolutions())
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        small = nncf.compress_weights(model)
        small.train()
        small(normal(2, 3, 8, 8))
        small.half()
        for parameter in small.parameters():
            parameter.requires_grad_(False)
        after = model.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())
        assert type(model.conv) is nn.Conv2d
        assert not model.training

    def test_untouched_parameters_are_shared(self):
        model = sequential()
        small = nncf.compress_weights(model)
        assert small[0].bias.data_ptr() == model[0].bias.data_ptr()

    def test_the_same_model_gives_the_same_bytes(self):
        first, second = (nncf.compress_weights(sequential(), Mode.NF4, group_size=32).state_dict() for _ in range(2))
        assert list(first) == list(second)
        assert all(torch.equal(first[name], second[name]) for name in first)


NOT_IN_ONNX = ("int3_sym", "nvfp4", "mxfp8_e4m3", "mxfp4")


@pytest.mark.needs("nncf_onnx")
@pytest.mark.parametrize("mode", [m for m in MODES if m.value not in NOT_IN_ONNX], ids=str)
def test_integers_are_those_of_onnx(mode):
    from tests.backends.onnx import models as onnx_models

    layer = seeded(nn.Sequential(nn.Linear(64, 32, bias=False)))
    small = nncf.compress_weights(layer, **settings(mode))
    ours = constants_of(small)["0.weight"].compressed()
    other = nncf.compress_weights(onnx_models.gemm(layer[0].weight.detach().numpy(), opset=25), **settings(mode))
    builder = registry().backends["onnx"].builder
    (constant,) = [c for c in builder.build(builder.open(other, {})).constants.values() if c.compressed]
    theirs = constant.compressed()
    for field in ("codes", "scale", "zero_point", "codebook"):
        mine, wanted = getattr(ours, field), getattr(theirs, field)
        assert (mine is None) == (wanted is None), field
        if mine is not None:
            assert np.array_equal(mine.reshape(-1).astype(np.float64), wanted.reshape(-1).astype(np.float64)), field


class TestEmbeddings:
    """Rows are taken before they are decompressed."""

    @pytest.mark.parametrize("indices", [torch.tensor([[3, 0], [39, 3]]), torch.tensor(5), torch.zeros(0, dtype=int)])
    @pytest.mark.parametrize("mode", MODES, ids=str)
    def test_rows_are_those_of_the_whole_weight(self, mode, indices):
        small = nncf.compress_weights(seeded(nn.Sequential(nn.Embedding(40, 96), nn.Linear(96, 3))), **settings(mode))
        weight = small[0].weight
        assert torch.equal(small[0](indices), weight[indices])

    def test_the_whole_table_is_not_decompressed(self, monkeypatch):
        small = nncf.compress_weights(seeded(nn.Sequential(nn.Embedding(40, 64), nn.Linear(64, 3))))
        expected = small[0].weight[:2]
        monkeypatch.setattr(type(small[0]), "weight", property(lambda _: pytest.fail("the table was decompressed")))
        assert torch.equal(small[0](torch.arange(2)), expected)

    def test_norms_are_still_limited(self):
        model = seeded(nn.Sequential(nn.Embedding(40, 64, max_norm=0.1), nn.Linear(64, 3)))
        assert (nncf.compress_weights(model)[0](torch.arange(2)).norm(dim=1) <= 0.1 + 1e-6).all()
