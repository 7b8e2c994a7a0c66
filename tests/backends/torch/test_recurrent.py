"""LSTM, GRU and RNN modules, which give their kernels a list of their weights."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

import nncf
from tests.backends.torch.models import normal, seeded

pytestmark = [
    # of torch itself, for float models, too
    pytest.mark.filterwarnings("ignore:.*_flat_weights.*were assigned during export"),
    pytest.mark.filterwarnings("ignore:LSTM with projections"),
]

LAYERS = {
    "lstm": lambda: nn.LSTM(64, 32, num_layers=2, bidirectional=True),
    "projected": lambda: nn.LSTM(64, 32, proj_size=16),
    "gru": lambda: nn.GRU(64, 32, bias=False, batch_first=True),
    "rnn": lambda: nn.RNN(64, 32, nonlinearity="relu"),
}


class Cells(nn.Module):
    """Cells one after the other, whose first states are parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru, self.rnn = nn.LSTMCell(64, 32), nn.GRUCell(32, 64), nn.RNNCell(64, 64)
        self.h, self.c = (nn.Parameter(torch.empty(3, 32)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(self.gru(self.lstm(x, (self.h, self.c))[0]))


def stripped(model):
    return nncf.strip(model, strip_format=nncf.StripFormat.IN_PLACE)


def compressed_by(model, trace, x):
    given = nncf.AdvancedCompressionParameters(backend_params={"trace": trace})
    dataset = None if trace == "structure" else nncf.Dataset([x])
    return nncf.compress_weights(model, dataset=dataset, advanced_parameters=given)


@pytest.mark.parametrize(
    ("name", "trace"), [*((name, "structure") for name in LAYERS), ("projected", "hooks"), ("projected", "export")]
)
def test_they_compute_with_their_decompressed_weights(name, trace):
    model, x = seeded(LAYERS[name]()), normal(5, 3, 64)
    small = compressed_by(model, trace, x)
    plain = stripped(small)
    matrices = [name for name, parameter in model.named_parameters() if parameter.dim() == 2]
    assert {f"{name}_codes" for name in matrices} <= set(small.state_dict())
    assert type(plain) is type(model)
    assert plain.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(small(x)[0], plain(x)[0])
        assert 0 < (small(x)[0] - model(x)[0]).abs().max() < 0.1
        packed = nn.utils.rnn.pack_padded_sequence(x, [5, 4, 2], model.batch_first, enforce_sorted=False)
        if not model.batch_first:
            assert torch.equal(small(packed)[0].data, plain(packed)[0].data)
    again = compressed_by(small, trace, x)
    assert list(again.state_dict()) == list(small.state_dict())


@pytest.mark.parametrize("trace", ["structure", "hooks", "export"])
def test_weights_of_cells_are_told_from_their_states(trace):
    model, x = seeded(Cells()), normal(3, 64)
    small = compressed_by(model, trace, x)
    assert {name for name in model.state_dict() if f"{name}_codes" in small.state_dict()} == {
        f"{cell}.weight_{part}" for cell in ("lstm", "gru", "rnn") for part in ("ih", "hh")
    }
    assert torch.equal(small(x), stripped(small)(x))


@pytest.mark.parametrize("name", LAYERS)
def test_copies_configs_and_programs(name):
    model, x = seeded(LAYERS[name]()), normal(5, 3, 64)
    small = nncf.compress_weights(model)
    wanted = small(x)[0]
    file = io.BytesIO()
    torch.save(small, file)
    restored = nncf.torch.load_from_config(LAYERS[name](), nncf.torch.get_config(small))
    restored.load_state_dict(small.state_dict())
    program = torch.export.export(small, (x,))
    assert "weight_hh_l0_codes" in program.state_dict
    file.seek(0)
    for other in (copy.deepcopy(small), torch.load(file, weights_only=False), restored, program.module()):
        assert torch.equal(other(x)[0], wanted)
    from_program = nncf.compress_weights(torch.export.export(model, (x,)))
    assert torch.equal(from_program.module()(x)[0], wanted)


def test_the_float_weights_are_let_go():
    small = nncf.compress_weights(nn.LSTM(64, 32))
    held = [value for value in vars(small).values() if isinstance(value, list)]
    assert not any(isinstance(item, torch.Tensor) for value in held for item in value)


@pytest.mark.needs("openvino")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "projected"])  # which its converter does not know
def test_openvino_takes_them_converted(name):
    import openvino

    small, x = nncf.compress_weights(seeded(LAYERS[name]())), normal(5, 3, 64)
    model = openvino.convert_model(small, example_input=x, input=[5, 3, 64])
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([x.numpy()])[0], small(x)[0].detach().numpy(), atol=1e-5)
