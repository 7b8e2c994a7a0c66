"""The functions of ``nncf.torch`` around a training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import nncf
import nncf.torch
from nncf.torch.initialization import PTInitializingDataLoader
from nncf.torch.structures import DistributedCallbacksArgs, ExecutionParameters, LeGRInitArgs
from nncf_core.errors import UnsupportedModelError, ValidationError

SECTION = {"algorithm": "magnitude_sparsity", "sparsity_init": 0.5, "params": {"sparsity_target": 0.5}}
pytestmark = pytest.mark.needs("nncf_magnitude_sparsity")


class Pair(nn.Module):
    """Takes two inputs, one of them by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3, bias=False), nn.Linear(5, 3, bias=False)

    def forward(self, x: torch.Tensor, *, y: torch.Tensor) -> torch.Tensor:
        return self.left(x) + self.right(y)


def masked(config: Any, model: nn.Module, **more: Any) -> nn.Module:
    _, made = nncf.torch.create_compressed_model(model, nncf.NNCFConfig.from_dict(config), **more)
    assert (made.left.weight == 0).sum() + (made.right.weight == 0).sum() == 14
    return made


def test_inputs_come_from_the_config() -> None:
    info = [{"sample_size": [1, 4], "keyword": "x"}, {"sample_size": [1, 5], "filler": "random", "keyword": "y"}]
    masked({"input_info": info, "compression": SECTION}, Pair())
    with pytest.raises(ValidationError, match="or none"):
        masked({"input_info": [info[0], {"sample_size": [1, 5]}], "compression": SECTION}, Pair())


@pytest.mark.parametrize("given", [{}, {"type": "double"}])
@pytest.mark.parametrize("filler", ["ones", "zeros", "random"])
def test_inputs_are_of_the_type_of_the_model(given: dict[str, str], filler: str) -> None:
    info = [{"sample_size": [1, n], "keyword": name, "filler": filler, **given} for n, name in ((4, "x"), (5, "y"))]
    masked({"input_info": info, "compression": SECTION}, Pair().double())


def test_inputs_come_from_a_function() -> None:
    def forward(model: nn.Module) -> None:
        model(torch.ones(1, 4), y=torch.ones(1, 5))

    masked({"compression": SECTION}, Pair(), dummy_forward_fn=forward)
    with pytest.raises(ValidationError, match="did not call"):
        masked({"compression": SECTION}, Pair(), dummy_forward_fn=lambda _: None)


def test_inputs_come_from_a_loader() -> None:
    class Loader(PTInitializingDataLoader):
        def get_inputs(self, dataloader_output: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return (), {"x": dataloader_output["a"], "y": dataloader_output["b"]}

    config = nncf.NNCFConfig.from_dict({"compression": SECTION})
    batches = [{"a": torch.ones(2, 4), "b": torch.ones(2, 5)}]
    nncf.torch.register_default_init_args(config, Loader(batches))
    _, made = nncf.torch.create_compressed_model(Pair(), config)
    assert hasattr(made.left, "weight_mask")


def test_without_an_input_there_is_an_error_with_the_remedies() -> None:
    with pytest.raises(ValidationError, match=r"input_info.*register_default_init_args.*dummy_forward_fn"):
        masked({"compression": SECTION}, Pair())
    with pytest.raises(UnsupportedModelError, match=r"torch\.nn\.Module"):
        nncf.torch.create_compressed_model("model", {"compression": SECTION})  # type: ignore[arg-type]


CONFIG = {
    "input_info": [{"sample_size": [1, 4], "keyword": "x"}, {"sample_size": [1, 5], "keyword": "y"}],
    "compression": SECTION,
}


def test_states_of_wrapped_models_are_loaded() -> None:
    model, other = masked(CONFIG, Pair()), masked(CONFIG, Pair())
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    assert nncf.torch.load_state(other, state, is_resume=True) == 4
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())
    state.pop("module.left.weight")
    with pytest.raises(ValidationError, match=r"missing: left\.weight"):
        nncf.torch.load_state(other, state, is_resume=True)
    assert nncf.torch.load_state(other, state) == 3
    assert nncf.torch.load_state(other, state, is_resume=True, keys_to_ignore=["left.weight"]) == 3
    state["module.left.weight"] = torch.ones(1)
    with pytest.raises(ValidationError, match=r"of another shape: left\.weight"):
        nncf.torch.load_state(other, state, is_resume=True)


def test_states_of_other_configs_are_refused() -> None:
    controller, _ = nncf.torch.create_compressed_model(Pair(), CONFIG)
    state = controller.get_compression_state()
    with pytest.raises(ValidationError, match="'magnitude_sparsity', which this config does not have"):
        nncf.torch.create_compressed_model(
            Pair(), {**CONFIG, "compression": {"algorithm": "const_sparsity"}}, compression_state=state
        )
    with pytest.raises(ValidationError, match="builder_state"):
        nncf.torch.create_compressed_model(Pair(), CONFIG, compression_state={})


def test_extra_structures_are_attached() -> None:
    config = nncf.NNCFConfig.from_dict(CONFIG)
    nncf.torch.register_default_init_args(
        config,
        [],
        criterion=nn.MSELoss(),
        train_steps_fn=lambda *_: None,
        validate_fn=lambda *_: (0.0, 0.0),
        val_loader=[],
        model_eval_fn=lambda _: 1.0,
        distributed_callbacks=(lambda m: m, lambda m: m),
        execution_parameters=ExecutionParameters(True, None),
    )
    assert config.has_extra_struct(LeGRInitArgs)
    assert config.get_extra_struct(DistributedCallbacksArgs).wrapping_callback("m") == "m"


def test_what_is_not_traced_is_not_compressed() -> None:
    class Hidden(Pair):
        def forward(self, x: torch.Tensor, *, y: torch.Tensor) -> torch.Tensor:
            with nncf.torch.no_nncf_trace():
                z = self.right(y)
            return self.left(x) + z

    _, made = nncf.torch.create_compressed_model(Hidden(), CONFIG)
    assert hasattr(made.left, "weight_mask")
    assert not hasattr(made.right, "weight_mask")
    seen = Pair()
    nncf.torch.disable_tracing(seen.right.forward)
    assert nncf.torch.nncf_model_input(seen) is nncf.torch.nncf_model_output(seen)
    assert nncf.torch.is_wrapped_model(made)
    assert not nncf.torch.is_wrapped_model(Pair())

    @nncf.torch.register_module(ignored_algorithms=[])
    class Registered(nn.Linear):
        """Stays what it is."""

    assert Registered.__mro__[1] is nn.Linear


def test_classes_of_states_of_masks_are_shown() -> None:
    made = masked(CONFIG, Pair())
    assert type(made.left).__name__ == "MaskedLinear"
    assert isinstance(made.left, nn.Linear)
