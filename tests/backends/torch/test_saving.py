"""Round trips through state_dict and config, and what strip gives back."""

import json

import pytest
import torch
from torch import nn

import nncf
from nncf import CompressWeightsMode as Mode
from nncf_core.numerics.kernels import decompress
from nncf_core.registry import registry
from nncf_core.transformations import InsertMultiply, PointKind, TargetPoint
from tests.backends.torch.models import Functional, Tied, functional_input, normal, seeded, sequential
from tests.backends.torch.test_forms import MODES, constants_of, settings


def config_of(model):
    """As it comes back from a file."""
    return json.loads(json.dumps(nncf.torch.get_config(model)))


class TestConfig:
    @pytest.mark.parametrize("mode", MODES, ids=str)
    def test_state_dicts_round_trip_in_every_mode(self, mode, tmp_path):
        small, x = nncf.compress_weights(sequential(), **settings(mode)), normal(3, 64)
        torch.save(small.state_dict(), tmp_path / "weights.pt")
        restored = nncf.torch.load_from_config(nn.Sequential(*map(type_of, sequential())), config_of(small))
        restored.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        assert torch.equal(restored(x), small(x))
        assert config_of(restored) == config_of(small)

    @pytest.mark.needs("safetensors")
    @pytest.mark.parametrize("mode", MODES, ids=str)
    def test_safetensors_hold_every_mode(self, mode, tmp_path):
        from safetensors.torch import load_file, save_file

        small, x = nncf.compress_weights(sequential(), **settings(mode)), normal(3, 64)
        save_file(small.state_dict(), tmp_path / "weights.safetensors")
        restored = nncf.torch.load_from_config(sequential(), config_of(small))
        restored.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(restored(x), small(x))

    def test_ties_are_restored(self):
        small = nncf.compress_weights(seeded(Tied()))
        config = config_of(small)
        names = [entry["hook_names_in_model"] for entry in config["compression_state"]]
        assert names == [["embedding.weight", "head.weight"], ["layer.weight"]]
        restored = nncf.torch.load_from_config(Tied(), config, None)
        assert restored.embedding.weight_codes is restored.head.weight_codes
        restored.load_state_dict(small.state_dict())
        tokens = torch.arange(6)[None]
        assert torch.equal(restored(tokens), small(tokens))

    def test_weights_of_functions(self):
        dataset = nncf.Dataset([functional_input()])
        small = nncf.compress_weights(seeded(Functional()), Mode.INT4_SYM, group_size=32, dataset=dataset)
        restored = nncf.torch.load_from_config(Functional().eval(), config_of(small))
        restored.load_state_dict(small.state_dict())
        feed = functional_input()
        assert torch.equal(restored(**feed)["out"], small(**feed)["out"])

    def test_multiplications_are_restored(self):
        backend = registry().backends["torch"]
        model = backend.builder.open(sequential(), {"example_input": normal(2, 64)})
        points = [TargetPoint("2/linear/0", kind) for kind in (PointKind.INPUT, PointKind.OUTPUT)]
        edits = [InsertMultiply(point, normal(1).numpy(), f"edit/{point.kind.value}") for point in points]
        edited = backend.inserter.apply(model, backend.builder.build(model), edits, {}).module
        restored = nncf.torch.load_from_config(sequential(), config_of(edited))
        restored.load_state_dict(edited.state_dict())
        x = normal(3, 64)
        assert torch.equal(restored(x), edited(x))
        assert not torch.equal(restored(x), sequential()(x))

    def test_the_given_model_is_not_changed(self):
        model = sequential()
        nncf.torch.load_from_config(model, config_of(nncf.compress_weights(sequential())))
        assert type(model[0]) is nn.Linear

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({}, "no list 'compression_state'"),
            ([], "no list 'compression_state'"),
            ({"compression_state": [{}]}, r"compression_state\[0\] does not fit"),
            (
                {"compression_state": [{"hook_names_in_model": [], "module_cls_name": "os", "module_config": {}}]},
                "unknown kind 'os'",
            ),
        ],
    )
    def test_what_is_no_config(self, config, message):
        with pytest.raises(nncf.ValidationError, match=message):
            nncf.torch.load_from_config(sequential(), config)

    def test_the_config_of_another_model(self):
        config = config_of(nncf.compress_weights(sequential()))
        with pytest.raises(nncf.ValidationError, match="another model"):
            nncf.torch.load_from_config(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)), config)
        with pytest.raises(nncf.ValidationError, match="does not fit the model"):
            nncf.torch.load_from_config(seeded(Tied()), config)

    def test_programs_have_none(self):
        with pytest.raises(nncf.UnsupportedModelError, match=r"torch\.export\.save"):
            nncf.torch.get_config(torch.export.export(sequential(), (normal(2, 64),)))


def type_of(layer):
    """A layer of the same kind with other weights."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    return type(layer)()


class TestStrip:
    def test_in_place_gives_floats(self):
        small = nncf.compress_weights(seeded(Tied()), Mode.INT4_SYM, group_size=32)
        stripped = nncf.strip(small, True, nncf.StripFormat.IN_PLACE, torch.arange(6)[None])
        assert type(stripped.layer) is nn.Linear
        assert set(stripped.state_dict()) == set(Tied().state_dict())
        assert stripped.embedding.weight is stripped.head.weight
        for name, constant in constants_of(small).items():
            if constant.compressed:
                values = stripped.get_parameter(name).detach().numpy()
                assert values.tobytes() == decompress(constant.compressed()).tobytes()
        tokens = torch.arange(6)[None]
        assert torch.equal(stripped(tokens), small(tokens))
        assert "embedding.weight_codes" in small.state_dict()

    @pytest.mark.parametrize("form", [nncf.StripFormat.NATIVE, nncf.StripFormat.DQ], ids=str)
    def test_other_forms_keep_low_bits(self, form):
        small = nncf.compress_weights(sequential())
        stripped = nncf.torch.strip(small, strip_format=form)
        assert config_of(stripped) == config_of(small)
