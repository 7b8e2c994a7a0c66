"""Which weights are trained, with what; and that nobody is asked for it who cannot."""

import pytest

import nncf
from nncf import CompressionFormat as Form
from nncf import CompressWeightsMode as Mode
from nncf_core.advanced import AdvancedCompressionParameters
from nncf_core.contracts import CompressionRequest, Context
from nncf_core.graph import Constant, Graph, OpKind
from nncf_core.statistics import Statistics
from nncf_core.transformations import CompressConstant, Training
from nncf_weight_compression.algorithm import WeightCompression
from nncf_weight_compression.parameters import WeightCompressionParameters
from tests.algorithms.weight_compression.graphs import CONV, graph, language_model, random, weighted


def edits(model: Graph, context: Context | None = None, rank: int = 8, **params: object) -> list[CompressConstant]:
    advanced = AdvancedCompressionParameters(lora_adapter_rank=rank)
    parameters = WeightCompressionParameters(advanced_parameters=advanced, **params)
    return list(WeightCompression().transformations(model, Statistics(), parameters, context or Context(), 0))


def ranks(model: Graph, **params: object) -> dict[str, int | None]:
    """Rank of the adapter by constant; ``None``: not trained."""
    return {
        edit.constant: None if edit.training is None else edit.training.adapter_rank for edit in edits(model, **params)
    }


def test_what_is_stored_is_not_trained() -> None:
    assert set(ranks(language_model()).values()) == {None}


def test_fake_quantization_has_no_adapters() -> None:
    model = language_model()
    for mode in (Mode.INT8_ASYM, Mode.INT4_SYM):
        size = 32 if mode is Mode.INT4_SYM else None
        assert ranks(model, mode=mode, group_size=size, compression_format=Form.FQ) == dict.fromkeys(model.constants, 0)


@pytest.mark.parametrize("form", [Form.FQ_LORA, Form.FQ_LORA_NLS])
def test_adapters_are_where_the_primary_format_is(form: Form) -> None:
    found = ranks(language_model(), mode=Mode.INT4_SYM, group_size=32, compression_format=form)
    assert found == {"table": 0, "w0": 8, "w1": 8, "w2": 8, "w3": 8, "head.w": 0}
    half = ranks(language_model(), mode=Mode.INT4_SYM, group_size=32, ratio=0.5, compression_format=form)
    assert sorted(half.values()) == [0, 0, 0, 0, 8, 8]


def test_where_all_have_8_bits_all_matrices_have_adapters() -> None:
    model = graph(
        [weighted("conv", "kernel", OpKind.CONV, CONV), *language_model().nodes],
        {"kernel": random(8, 4, 3, 3), **{name: c.read() for name, c in language_model().constants.items()}},
    )
    wanted = {"kernel": 0, **dict.fromkeys(language_model().constants, 8)}
    assert ranks(model, compression_format=Form.FQ_LORA) == wanted
    none_left = ranks(model, mode=Mode.INT4_SYM, group_size=32, ratio=0.0, compression_format=Form.FQ_LORA)
    assert none_left == wanted


def test_ranks_are_checked_before_any_work() -> None:
    asked = []
    context = Context(refusal=lambda constant, request: asked.append(request))
    with pytest.raises(
        nncf.ValidationError, match=r"is 65, more than .* of 4 weights: w0 .*\[64, 64\].*Set it to 64 or"
    ):
        edits(language_model(), context, rank=65, mode=Mode.INT4_SYM, group_size=32, compression_format=Form.FQ_LORA)
    assert not asked


def test_the_backend_is_asked_about_training() -> None:
    asked: list[CompressionRequest] = []

    def refuse(constant: Constant, request: CompressionRequest) -> str | None:
        asked.append(request)
        return "no gradients here" if request.training else None

    with pytest.raises(nncf.ParameterNotSupportedError, match=r"'table' .* int8_asym and trained: no gradients here"):
        edits(language_model(), Context(refusal=refuse), compression_format=Form.FQ)
    assert [request.training for request in asked] == [Training()]
