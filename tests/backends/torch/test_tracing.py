"""Graphs of modules by the three ways, and which weights each of them finds."""

import logging

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import nncf
from nncf import CompressWeightsMode as Mode
from nncf_core.graph import OpKind
from nncf_core.registry import registry
from tests.backends.torch.models import (
    Branching,
    Experts,
    Functional,
    Tied,
    functional_input,
    normal,
    seeded,
    sequential,
)


def graph_of(model, **options):
    builder = registry().backends["torch"].builder
    return builder.build(builder.open(model, options))


def compressed_names(model):
    return {name.removesuffix("_codes") for name in model.state_dict() if name.endswith("_codes")}


def traced_by(trace):
    return nncf.AdvancedCompressionParameters(backend_params={"trace": trace})


class TestWays:
    def test_without_an_input_the_structure_is_enough(self):
        graph = graph_of(sequential())
        assert graph.properties["trace"] == "structure"
        assert [node.name for node in graph] == ["0/linear/0", "2/linear/0", "4/linear/0"]

    def test_with_an_input_a_run_is_watched(self):
        graph = graph_of(sequential(), example_input=normal(2, 64))
        assert graph.properties["trace"] == "hooks"
        names = [node.name for node in graph if node.kind is OpKind.MATMUL]
        assert names == ["0/linear/0", "2/linear/0", "4/linear/0"]

    @pytest.mark.parametrize("trace", ["export", "hooks", "structure"])
    def test_the_user_may_choose(self, trace):
        graph = graph_of(sequential(), example_input=normal(2, 64), trace=trace)
        assert graph.properties["trace"] == trace

    def test_names_of_layers_do_not_depend_on_the_way(self):
        model, tokens = seeded(Tied()), torch.arange(6)[None]
        ways = [graph_of(model, example_input=tokens, trace=trace) for trace in ("export", "hooks")]
        names = [[n.name for n in graph.of_kind((OpKind.MATMUL, OpKind.EMBEDDING))] for graph in ways]
        assert names[0] == names[1] == ["embedding/embedding/0", "layer/linear/0", "layer/linear/1", "head/linear/0"]

    def test_what_cannot_be_exported_can_be_watched(self):
        model, x = seeded(Branching()), normal(2, 64).abs()
        with pytest.raises(nncf.UnsupportedModelError, match=r"torch.export cannot make a graph of the model"):
            graph_of(model, example_input=x, trace="export")
        graph = graph_of(model, example_input=x)
        assert graph.properties["trace"] == "hooks"
        assert [node.name for node in graph.of_kind([OpKind.MATMUL])] == ["first/linear/0", "linear/0"]

    def test_build_graph_takes_an_example(self):
        graph = nncf.build_graph(sequential(), example_input=normal(2, 64))
        assert graph.node("1/relu/0").kind is OpKind.RELU

    def test_dimensions_that_may_vary_are_unknown(self):
        graph = graph_of(seeded(Tied()), example_input=torch.zeros(2, 5, dtype=torch.int64), trace="export")
        assert graph.node("head/linear/0").outputs[0].shape == (None, None, 96)


class TestWeightsOfCode:
    @pytest.mark.parametrize("trace", ["export", "hooks"])
    def test_parameters_in_functions_are_found(self, trace):
        model, feed = seeded(Functional()), functional_input()
        with torch.no_grad():
            plain = model(**feed)
        small = nncf.compress_weights(
            model,
            Mode.INT8_SYM,
            dataset=nncf.Dataset([feed]),
            advanced_parameters=traced_by(trace),
        )
        assert compressed_names(small) == {
            "w", "experts", "back", "attention.in_proj_weight", "attention.out_proj.weight", "listed.0",
        }  # fmt: skip
        assert small.experts_scale.shape == (3, 1, 32)
        assert small.back_scale.shape == (3, 64, 1)
        found = small(**feed)
        assert torch.allclose(found["out"], plain["out"], atol=0.02 * float(plain["out"].abs().max()))
        assert torch.allclose(found["hidden"][0], plain["hidden"][0], atol=0.05 * float(plain["hidden"][0].abs().max()))

    @pytest.mark.parametrize("at_once", [False, True])
    def test_experts_that_the_data_chooses_are_found(self, at_once):
        model, x = seeded(Experts(at_once)), normal(9, 64)
        given = {"dataset": nncf.Dataset([x]), "advanced_parameters": traced_by("hooks")}
        small = nncf.compress_weights(model, Mode.INT8_SYM, **given)
        assert compressed_names(small) == {"gate.weight", "experts"}
        assert small.experts_scale.shape == (3, 32, 1)
        with torch.no_grad():
            torch.testing.assert_close(small(x), model(x), rtol=0, atol=0.1)

    def test_without_a_run_they_are_left_and_named(self, caplog):
        with caplog.at_level(logging.INFO, "nncf"):
            small = nncf.compress_weights(seeded(Functional()))
        assert compressed_names(small) == {"attention.in_proj_weight", "attention.out_proj.weight"}
        assert "w, experts, back" in caplog.text

    @pytest.mark.parametrize("given", [{}, {"dataset": nncf.Dataset([normal(3, 32)])}], ids=["structure", "run"])
    def test_weights_of_parametrizations_are_left_and_named(self, caplog, given):
        with torch.random.fork_rng():
            torch.manual_seed(0)  # spectral_norm begins with random vectors
            layers = [weight_norm(nn.Linear(32, 32)), nn.Sequential(spectral_norm(nn.Linear(32, 32))), nn.Linear(32, 8)]
        model, x = seeded(nn.Sequential(*layers)), normal(3, 32)
        with caplog.at_level(logging.INFO, "nncf"):
            small = nncf.compress_weights(model, **given)
        assert compressed_names(small) == {"2.weight"}
        assert (
            caplog.text.count(
                "made by parametrizations whenever they are read, and so left as they are: 0.weight, 1.0.weight. "
            )
            == 1
        )
        assert "Only a run" not in caplog.text
        with torch.no_grad():
            plain = model(x)
            torch.testing.assert_close(small(x), plain, rtol=0, atol=0.01 * float(plain.abs().max()))

    def test_the_dataset_gives_the_example(self):
        small = nncf.compress_weights(seeded(Functional()), dataset=nncf.Dataset([functional_input()]))
        assert "w" in compressed_names(small)

    @pytest.mark.parametrize("positional", [False, True])
    def test_an_option_gives_the_example(self, positional):
        feed = functional_input()
        example = (feed["x"], feed["extra"]) if positional else feed
        given = nncf.AdvancedCompressionParameters(backend_params={"example_input": example})
        assert "w" in compressed_names(nncf.compress_weights(seeded(Functional()), advanced_parameters=given))

    def test_a_shared_layer_is_one_constant(self):
        graph = graph_of(seeded(Tied()), example_input=torch.arange(6)[None])
        users = [node.name for node, _ in graph.users("layer.weight")]
        assert users == ["layer/linear/0", "layer/linear/1"]
        assert {node.name for node, _ in graph.users("embedding.weight")} == {"embedding/embedding/0", "head/linear/0"}


class Stateful(nn.Module):
    """Writes to its buffers, and to the table that ``max_norm`` shortens."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 64, max_norm=1.0)
        self.layer = nn.Linear(64, 64)
        self.register_buffer("runs", torch.zeros(()))
        self.register_buffer("cache", torch.zeros(5, 64))

    def forward(self, tokens):
        self.runs = self.runs + 1
        self.cache += self.table(tokens)
        return self.layer(self.cache)


@pytest.mark.parametrize("trace", ["export", "hooks"])
def test_the_run_of_an_example_leaves_nothing_behind(trace):
    model, data = seeded(Stateful()), nncf.Dataset([torch.arange(5)])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scope = nncf.IgnoredScope(types=["embedding"])
    small = nncf.compress_weights(model, dataset=data, ignored_scope=scope, advanced_parameters=traced_by(trace))
    assert compressed_names(small) == {"layer.weight"}
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor)
        assert name == "layer.weight" or torch.equal(small.state_dict()[name], tensor)


class TestIgnoredScope:
    @pytest.mark.parametrize("trace", ["auto", "export", "hooks"])
    def test_names_patterns_and_types(self, trace):
        given = {"dataset": nncf.Dataset([normal(2, 64)]), "advanced_parameters": traced_by(trace)}
        scope = nncf.IgnoredScope(names=["0/linear/0"], patterns=["4/.*"])
        assert compressed_names(nncf.compress_weights(sequential(), ignored_scope=scope, **given)) == {"2.weight"}
        scope = nncf.IgnoredScope(types=["linear"])
        assert compressed_names(nncf.compress_weights(sequential(), ignored_scope=scope, **given)) == set()


class TestErrors:
    def test_tracing_needs_an_input(self):
        with pytest.raises(nncf.ValidationError, match="example_input"):
            graph_of(sequential(), trace="export")

    def test_unknown_options_are_named(self):
        with pytest.raises(nncf.ValidationError, match="'tracing'"):
            graph_of(sequential(), tracing="export")
        with pytest.raises(nncf.ValidationError, match="must be one of auto, export, hooks, structure"):
            graph_of(sequential(), trace="guess")

    def test_inputs_that_do_not_fit(self):
        with pytest.raises(nncf.UnsupportedDatasetError, match="forward"):
            graph_of(sequential(), example_input={"no such argument": normal(2, 64)})
        with pytest.raises(nncf.UnsupportedModelError):
            graph_of(sequential(), example_input=normal(2, 63), trace="export")
        with pytest.raises(nncf.UnsupportedModelError, match="does not run"):
            graph_of(sequential(), example_input=normal(2, 63), trace="hooks")

    def test_lazy_modules_must_be_run_first(self):
        with pytest.raises(nncf.UnsupportedModelError, match="has no shape yet"):
            nncf.compress_weights(nn.Sequential(nn.LazyLinear(4)))

    def test_group_sizes_that_do_not_fit_name_the_layer(self):
        with pytest.raises(nncf.InvalidGroupSizeError, match="0/linear/0"):
            nncf.compress_weights(sequential(), Mode.INT4_SYM, group_size=48)

    def test_values_that_are_not_finite_name_the_weight(self):
        model = sequential()
        model[2].weight.data[3, 4] = float("nan")
        with pytest.raises(nncf.ValidationError, match=r"2\.weight.*\[3, 4\]"):
            nncf.compress_weights(model)
