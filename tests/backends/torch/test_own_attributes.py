"""Modules with attributes of their own under names that parts of compressed weights would be stored under."""

import io
import json

import pytest
import torch
from torch import nn

import nncf
from nncf import CompressWeightsMode as Mode
from nncf_core.errors import ValidationError
from tests.backends.torch.models import normal, seeded

CALLS = {"int8": {}, "int4": {"mode": Mode.INT4_ASYM, "group_size": 16, "all_layers": True}}
KINDS = ["buffer", "parameter", "attribute"]


class Scaled(nn.Linear):
    """Multiplies its results by something under a name that is given."""

    def __init__(self, inputs, outputs, name="weight_scale", kind="buffer"):
        super().__init__(inputs, outputs)
        self.own = name
        value = torch.linspace(1, 2, outputs)
        if kind == "buffer":
            self.register_buffer(name, value)
        else:
            setattr(self, name, nn.Parameter(value) if kind == "parameter" else 3.0)

    def forward(self, x):
        return super().forward(x) * getattr(self, self.own)


def model(name="weight_scale", kind="buffer"):
    return seeded(nn.Sequential(Scaled(32, 32, name, kind), nn.Linear(32, 8)))


def near(found, wanted, bits):
    return (found - wanted).norm() < {"int8": 0.02, "int4": 0.15}[bits] * wanted.norm()


@pytest.mark.parametrize("bits", list(CALLS))
@pytest.mark.parametrize(
    ("name", "kind"),
    [("weight_codes", "buffer"), ("weight_zero_point", "parameter"), *(("weight_scale", k) for k in KINDS)],
)
class TestOwnAttributes:
    def test_modules(self, name, kind, bits):
        given, x = model(name, kind), normal(3, 32)
        small = nncf.compress_weights(given, **CALLS[bits])
        assert near(small(x), given(x), bits)
        assert {"0.weight_codes_1", "0.weight_scale_1", "1.weight_codes"} <= small.state_dict().keys()
        own, kept = getattr(given[0], name), getattr(small[0], name)
        assert torch.equal(kept, own) if kind != "attribute" else kept == own
        assert [c.compressed is not None for c in nncf.build_graph(small).constants.values()].count(True) == 2

        restored = nncf.torch.load_from_config(model(name, kind), json.loads(json.dumps(nncf.torch.get_config(small))))
        restored.load_state_dict(small.state_dict())
        file = io.BytesIO()
        torch.save(small, file)
        file.seek(0)
        for other in (restored, torch.load(file, weights_only=False)):
            assert torch.equal(other(x), small(x))

        plain = nncf.strip(small, strip_format=nncf.StripFormat.IN_PLACE)
        assert plain.state_dict().keys() == given.state_dict().keys()
        assert type(plain[0]) is Scaled
        torch.testing.assert_close(plain(x), small(x))
        again = nncf.compress_weights(plain, **CALLS[bits])
        assert again.state_dict().keys() == small.state_dict().keys()

    def test_programs_and_graph_modules(self, name, kind, bits):
        given, x = model(name, kind), normal(3, 32)
        wanted = nncf.compress_weights(given, **CALLS[bits])(x)
        program = torch.export.export(given, (x,))
        small = nncf.compress_weights(program, **CALLS[bits])
        torch.testing.assert_close(small.module()(x), wanted)
        torch.testing.assert_close(nncf.compress_weights(program.module(), **CALLS[bits])(x), wanted)
        # read back: nothing is left to compress
        assert nncf.compress_weights(small).state_dict.keys() == small.state_dict.keys()
        plain = nncf.strip(small, strip_format=nncf.StripFormat.IN_PLACE)
        assert plain.state_dict.keys() == program.state_dict.keys()
        torch.testing.assert_close(plain.module()(x), wanted)


def test_programs_of_compressed_modules_are_recognised():
    small, x = nncf.compress_weights(model()), normal(3, 32)
    program = torch.export.export(small, (x,))
    assert nncf.compress_weights(program).state_dict.keys() == program.state_dict.keys()


def test_they_compile():
    torch._dynamo.reset()
    small, x = nncf.compress_weights(model()), normal(3, 32)
    compiled = torch.compile(small, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), small(x))


def test_modules_that_share_a_weight_use_the_same_names():
    given = seeded(nn.Sequential(nn.Linear(32, 32), Scaled(32, 32)))
    given[1].weight = given[0].weight
    small = nncf.compress_weights(given)
    assert small[0].weight_codes_1 is small[1].weight_codes_1
    assert near(small(normal(3, 32)), given(normal(3, 32)), "int8")


def test_a_config_of_another_model_overwrites_nothing():
    config = nncf.torch.get_config(nncf.compress_weights(seeded(nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 8)))))
    with pytest.raises(ValidationError, match="Scaled has an attribute 'weight_scale' of its own"):
        nncf.torch.load_from_config(model(), config)


@pytest.mark.parametrize("kind", KINDS)
def test_quantization_refuses_them(kind):
    with pytest.raises(ValidationError, match=r"Scaled has an attribute 'weight_scale' of its own.*ignored_scope"):
        nncf.quantize(model(kind=kind), nncf.Dataset([normal(3, 32)]))


def test_quantized_programs_leave_them():
    given, x = model(), normal(3, 32)
    quantized = nncf.quantize(torch.export.export(given, (x,)), nncf.Dataset([x]))
    assert near(quantized.module()(x), given(x), "int8")


def test_training_refuses_them():
    with pytest.raises(ValidationError, match="'weight_low' of its own"):
        nncf.compress_weights(model("weight_low"), mode=Mode.INT8_ASYM, compression_format=nncf.CompressionFormat.FQ)
