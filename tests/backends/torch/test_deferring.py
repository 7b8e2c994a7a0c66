"""Graphs are made without computing products; whoever looks at values, in the run or after it, sees the true ones."""

import ctypes

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import nncf
from nncf_core.graph import OpKind
from nncf_core.registry import registry
from nncf_torch import hook_tracing
from nncf_torch.deferring import Deferred
from nncf_torch.inputs import Call
from nncf_torch.module_model import ModuleModel
from tests.backends.torch.models import Tied, normal, seeded, sequential
from tests.backends.torch.scripted import Scripted


def graph_of(model, example):
    builder = registry().backends["torch"].builder
    return builder.build(builder.open(model, {"example_input": example}))


def _unseen(x):
    """What code in C++ does, which no torch function shows."""
    with torch._C.DisableTorchFunction():
        zeros = torch.zeros(int((x != 0).sum()))
    return zeros.sqrt().numel() > 0


def _swallowed(x):
    try:
        return bool((x != 0).any())
    except:  # noqa: E722
        return False


def _written_over(x):
    total = torch.zeros(1)
    total[0] = x.abs().sum()
    return total.item() > 0


def _first_number(x):
    return ctypes.c_float.from_address(x.data_ptr()).value != 0


QUESTIONS = {
    "bool": lambda x: bool((x != 0).any()),
    "if": lambda x: True if x.abs().sum() > 0 else False,  # noqa: SIM210
    "item": lambda x: x.abs().max().item() > 0,
    "float": lambda x: float(x.abs().sum()) > 0,
    "int": lambda x: int((x != 0).sum()) > 0,
    "range": lambda x: len(range((x != 0).sum())) > 0,
    "tolist": lambda x: any(x.flatten().tolist()),
    "numpy": lambda x: x.numpy().any(),
    "asarray": lambda x: np.asarray(x).any(),
    "contains": lambda x: 0.0 not in x,
    "format": lambda x: f"{x.flatten()[0]:.1f}" != "0.0",
    "repr": lambda x: "0." not in repr((x != 0).float()),
    "nonzero": lambda x: len(x.nonzero()) > 0,
    "where": lambda x: torch.where(x != 0)[0].numel() > 0,
    "mask": lambda x: x[x != 0].numel() > 0,
    "masked_select": lambda x: x.masked_select(x != 0).numel() > 0,
    "unique": lambda x: x.unique().numel() > 1,
    "equal": lambda x: not torch.equal(x, torch.zeros_like(x)),
    "allclose": lambda x: not x.allclose(torch.zeros_like(x)),
    "size": lambda x: torch.zeros((x != 0).sum()).numel() > 0,
    "arange": lambda x: torch.arange((x != 0).sum()).numel() > 0,
    "slice": lambda x: x.flatten()[: (x != 0).sum()].numel() > 0,
    "narrow": lambda x: x.flatten().narrow(0, 0, (x != 0).sum()).numel() > 0,
    "tensor_split": lambda x: x.flatten().tensor_split((x != 0).sum().cpu())[0].numel() > 0,
    "repeat_interleave": lambda x: torch.arange(2).repeat_interleave((x != 0).sum().repeat(2)).numel() > 0,
    "one_hot": lambda x: functional.one_hot((x != 0).long().flatten()).shape[-1] > 1,
    "bincount": lambda x: (x != 0).long().flatten().bincount().numel() > 1,
    "set": _written_over,
    "data_ptr": _first_number,
    "unseen": _unseen,
    "swallowed": _swallowed,
}


class Asking(nn.Module):
    """Which layer runs depends on what the first one gives."""

    def __init__(self, question):
        super().__init__()
        self.question = question
        self.first, self.nonzero, self.zero = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        x = self.first(x)
        return (self.nonzero if self.question(x) else self.zero)(x)


class Attending(nn.Module):
    """Attention with masks, tables of positions and picked tokens, as language models have them."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(32, 16)
        self.register_buffer("table", torch.arange(64.0).reshape(4, 16))
        self.query, self.key, self.value, self.head = (nn.Linear(16, 16, bias=False) for _ in range(4))

    def forward(self, tokens):
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embedding(tokens) + self.table[positions]
        query, key, value = (
            layer(x).unflatten(-1, (2, 8)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mask = torch.full((4, 4), float("-inf")).triu(1)
        weights = (query @ key.mT / 8**0.5 + mask).masked_fill(mask == 1, 0).softmax(-1)
        x = (weights @ value).transpose(1, 2).flatten(2)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.head(x[:, -1:]), x.topk(2, -1).values


class Recurrent(nn.Module):
    """What is left out stands before and behind a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.first, self.lstm, self.last = nn.Linear(16, 16), nn.LSTM(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        return self.last(self.lstm(self.first(x))[0])


class Fused(nn.Module):
    """Attention in one function, with a mask and without."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        x = functional.scaled_dot_product_attention(*[self.inner(x)[:, None]] * 3, is_causal=True)
        mask = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).tril()
        return self.outer(functional.scaled_dot_product_attention(x, x, x[..., :16], attn_mask=mask))


class Matrices(nn.Module):
    """Products with matrices [inputs, outputs] by other functions than ``linear``."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(16, 16)) for _ in range(4))
        self.bias = nn.Parameter(torch.zeros(16))

    def forward(self, x):
        first, second, third, last = self.weights
        x = (x @ first).matmul(second).flatten(0, 1)
        return torch.addmm(self.bias, x, third).mm(last)


WITHOUT_PRODUCTS = ("sequential", "tied", "attending", "encoder", "fused", "matrices")


class Keeping(nn.Module):
    """Holds what its first run gave, in one of many ways."""

    everywhere: dict[str, torch.Tensor] = {}  # noqa: RUF012

    def __init__(self, way):
        super().__init__()
        self.way, self.held, self.items = way, None, []
        self.layer, self.other = nn.Linear(16, 16), nn.Linear(16, 16)
        self.register_buffer("late", None)
        self.register_buffer("rows", torch.zeros(2, 16))
        self.register_buffer("wide", torch.zeros(3, 2, 16))
        self.factor = nn.Parameter(torch.ones(16))
        Keeping.everywhere.clear()

    def forward(self, x):
        x = self.layer(x).tanh()
        if self.way == "attribute" and self.held is None:
            self.held = self.other(x).detach()
        elif self.way == "view" and self.held is None:
            self.held = self.other(x)[:, 4:].expand(3, 2, 12)
        elif self.way == "list" and not self.items:
            self.items.append(self.other(x) + 1)
        elif self.way == "buffer" and self.late is None:
            self.late = self.other(x).abs().amax(0)
        elif self.way == "new buffer" and not hasattr(self, "new"):
            self.register_buffer("new", self.other(x))
        elif self.way == "global" and not self.everywhere:
            Keeping.everywhere["made"] = self.other(x)
        elif self.way == "in place":
            self.held = x
            x = x + 0
            self.held.mul_(2).add_(self.other(x))
        return x

    def kept(self):
        found = {
            "list": self.items[0] if self.items else None,
            "buffer": self.late,
            "global": self.everywhere.get("made"),
        }
        return getattr(self, "new", None) if self.way == "new buffer" else found.get(self.way, self.held)


MODELS = {
    "sequential": (sequential, lambda: normal(2, 64)),
    "tied": (lambda: seeded(Tied()), lambda: torch.arange(6)[None]),
    "attending": (lambda: seeded(Attending()), lambda: torch.arange(4)[None]),
    "encoder": (lambda: seeded(nn.TransformerEncoderLayer(16, 2, 32)), lambda: normal(3, 1, 16)),
    "fused": (lambda: seeded(Fused()), lambda: normal(3, 4, 16)),
    "matrices": (lambda: seeded(Matrices()), lambda: normal(3, 4, 16)),
    "recurrent": (lambda: seeded(Recurrent()), lambda: normal(3, 1, 16)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_model_that_asks_for_values_gets_true_ones(question):
    model = seeded(Asking(QUESTIONS[question]))
    layers = [node.name for node in graph_of(model, normal(2, 16)).of_kind([OpKind.MATMUL])]
    assert layers == ["first/linear/0", "nonzero/linear/0"]


def test_what_torchscript_asks_for_is_true():
    layers = [node.name for node in graph_of(seeded(Scripted()), normal(2, 16)).of_kind([OpKind.MATMUL])]
    assert layers == ["first/linear/0", "nonzero/linear/0"]


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_is_that_of_a_run_with_all_products(name, monkeypatch):
    make, example = MODELS[name]
    quick = graph_of(make(), example())
    monkeypatch.setattr(Deferred, "call", lambda self, op_type, function, args, kwargs: function(*args, **kwargs))
    whole = graph_of(make(), example())
    assert list(quick) == list(whole)
    assert quick.outputs == whole.outputs


@pytest.mark.parametrize("name", WITHOUT_PRODUCTS)
def test_products_with_weights_are_not_computed(name):
    make, example = MODELS[name]
    model = make().eval()
    with FlopCounterMode(display=False) as once, torch.no_grad():
        model(example())
    with FlopCounterMode(display=False) as counted:
        graph_of(model, example())
    left_out = (
        torch.ops.aten.mm,
        torch.ops.aten.addmm,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
    )
    assert sum(once.get_flop_counts()["Global"].get(op, 0) for op in left_out) > 0
    assert sum(counted.get_flop_counts().get("Global", {}).get(op, 0) for op in left_out) == 0


@pytest.mark.parametrize("way", ["attribute", "view", "list", "buffer", "new buffer", "global", "in place"])
def test_what_outlives_the_run_is_true(way):
    model, x = seeded(Keeping(way)), normal(2, 16)
    hook_tracing.build(ModuleModel(model, example=Call((x,), {})))
    found = model.kept()
    again = seeded(Keeping(way))
    with torch.no_grad():
        again(x)
    assert found.abs().max() > 0
    torch.testing.assert_close(found, again.kept(), rtol=0, atol=0)


def test_what_hooks_of_the_user_hold_is_true():
    model, x, held = seeded(nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4))), normal(2, 16), []
    model[1].register_forward_hook(lambda *given: held.append(given[2]))
    hook_tracing.build(ModuleModel(model, example=Call((x,), {})))
    with torch.no_grad():
        torch.testing.assert_close(held[0], model[0](x).tanh(), rtol=0, atol=0)


@pytest.mark.parametrize("write", ["copy_", "setitem", "add_", "data", "relu"])
def test_tensors_that_are_written_to_get_true_values(write):
    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.factor = nn.Linear(16, 16), nn.Parameter(torch.ones(16))
            self.written = torch.full((16,), -1.0)

        def forward(self, x):
            row = self.layer(x)[0] * self.written
            if write == "copy_":
                self.written.copy_(row)
            elif write == "setitem":
                self.written[2:5] = row[2:5]
            elif write == "add_":
                self.written.mul_(3).add_(row)
            elif write == "data":
                self.factor.data = row
            else:
                functional.relu(self.written, inplace=True)
                self.other = row + self.written
            return x * self.factor + self.written

    model, again, x = seeded(Writing()), seeded(Writing()), normal(2, 16)
    hook_tracing.build(ModuleModel(model, example=Call((x,), {})))
    with torch.no_grad():
        again(x)
    torch.testing.assert_close(model.written, again.written, rtol=0, atol=0)
    torch.testing.assert_close(model.factor, again.factor, rtol=0, atol=0)
    if write == "relu":
        torch.testing.assert_close(model.other, again.other, rtol=0, atol=0)


def test_a_model_runs_once_and_to_its_end():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.runs, self.ends = nn.Linear(16, 16), 0, 0

        def forward(self, x):
            self.runs += 1
            x = self.layer(x)
            if x.sum() > 1e9:
                x = x + 1
            self.ends += 1
            return self.layer(x)

    model = seeded(Counting())
    hook_tracing.build(ModuleModel(model, example=Call((normal(2, 16),), {})))
    assert (model.runs, model.ends) == (1, 1)


@pytest.mark.parametrize("surroundings", ["autocast", "enable_grad", "inference_mode", "vmap"])
def test_what_surrounds_calls_is_kept(surroundings):
    class Surrounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.asked = nn.Linear(16, 16), nn.Linear(16, 16), None

        def forward(self, x):
            x = self.first(x)
            if surroundings == "autocast":
                with torch.autocast("cpu", torch.bfloat16):
                    x = self.inner(x)
                self.asked = x.dtype
            elif surroundings == "enable_grad":
                with torch.enable_grad():
                    self.asked = self.inner(x).requires_grad
            elif surroundings == "inference_mode":
                with torch.inference_mode():
                    self.asked = self.inner(x).is_inference()
            else:
                self.asked = torch.vmap(lambda row: (row @ self.inner.weight).sum())(x).dtype
            self.sum = x.sum()
            return x

    model, again, x = seeded(Surrounded()), seeded(Surrounded()), normal(2, 16)
    hook_tracing.build(ModuleModel(model, example=Call((x,), {})))
    with torch.no_grad():
        again(x)
    assert model.asked == again.asked
    torch.testing.assert_close(model.sum, again.sum, rtol=0, atol=0)


def test_weights_that_do_not_fit_fail_as_they_do():
    model = nn.Sequential(nn.Linear(16, 8), nn.Linear(16, 8))
    with pytest.raises(nncf.UnsupportedModelError, match=r"does not run on its input: mat1 and mat2 shapes cannot be"):
        graph_of(model, normal(2, 16))


def test_biases_that_do_not_fit_fail_as_they_do():
    model = nn.Linear(16, 8)
    model.bias = nn.Parameter(torch.zeros(7))
    with pytest.raises(nncf.UnsupportedModelError, match="does not run on its input"):
        graph_of(model, normal(2, 16))


def test_heads_that_do_not_fit_fail_as_they_do():
    class Wrong(nn.Module):
        def forward(self, x):
            return functional.scaled_dot_product_attention(x, x[..., :8], x)

    with pytest.raises(nncf.UnsupportedModelError, match="does not run on its input"):
        graph_of(Wrong(), normal(2, 3, 4, 16))


def test_what_a_model_raises_for_zeros_alone_is_no_failure():
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, x):
            x = self.layer(x)
            if not x.any():
                raise ValueError("nothing came")
            return x

    assert [node.name for node in graph_of(seeded(Strict()), normal(2, 16)).of_kind([OpKind.MATMUL])] == [
        "layer/linear/0"
    ]
