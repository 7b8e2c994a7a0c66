"""Running models on arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from nncf_core.contracts import Runner
from nncf_core.errors import UnsupportedDatasetError
from nncf_torch.compressed_modules import parts_of, weights_of
from nncf_torch.graph_model import GraphModel
from nncf_torch.inputs import Call, call_of, named_outputs, with_tensors
from nncf_torch.module_model import ModuleModel
from nncf_torch.tensors import array_of, device_of, tensor_of

if TYPE_CHECKING:
    from nncf_torch.hook_tracing import Probe


def runner(model: GraphModel | ModuleModel | Probe) -> Runner:
    """A callable that runs a working model in evaluation mode, without gradients."""

    def run(feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {name: tensor_of(np.array(array)) for name, array in feed.items()}
        if isinstance(model, GraphModel):
            # parts are fed the whole model's inputs, too
            part = model.output_names is not None
            names = {name for name, _ in model.inputs()}
            tensors = run_graph(model, {n: t for n, t in given.items() if n in names} if part else given)
        elif not isinstance(model, ModuleModel):
            tensors = _run_probe(model, given)
        else:
            tensors = named_outputs(run_module(model.module, call_of(given)))
        return {name: np.array(array_of(tensor)) for name, tensor in tensors.items()}

    return run


def _run_probe(model: Probe, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from nncf_torch.hook_tracing import run_probe

    if not model.inputs:
        return run_probe(model, call_of(given), {})
    points = {str(point): point for point in model.inputs}
    fed = {points[name]: tensor for name, tensor in given.items() if name in points}
    own = {name: tensor for name, tensor in given.items() if name not in points}
    return run_probe(model, with_tensors(model.model.module, model.example, own), fed)


def run_module(module: nn.Module, call: Call) -> Any:
    """What a module gives, in evaluation mode; buffers that it writes to and random numbers are as before."""
    call = on_device(module, call)
    with evaluating(module), _kept(module), _uncompiled(), torch.no_grad(), torch.random.fork_rng():
        return module(*call.args, **call.kwargs)


def on_device(module: nn.Module, call: Call) -> Call:
    """A call whose tensors are where a module is."""
    device = device_of(module)
    args, kwargs = pytree.tree_map(lambda leaf: _to(leaf, device), (tuple(call.args), dict(call.kwargs)))
    return Call(args, kwargs)


def run_graph(model: GraphModel, feed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs of a graph by name.

    :raises UnsupportedDatasetError: when a tensor is missing, or is not an input.
    """
    names = [name for name, _ in model.inputs()]
    if set(feed) != set(names):
        raise UnsupportedDatasetError(f"The model's inputs are {names}; given are {sorted(map(str, feed))}.")
    given = iter([feed[name] for name in names])
    flat = [
        model.constant_inputs[node.name] if node.name in model.constant_inputs else next(given)
        for node in model.graph.nodes
        if node.op == "placeholder"
    ]
    with torch.no_grad():
        outputs = fx.Interpreter(model.module).run(*flat, enable_io_processing=False)
    return _named(model, outputs)


def _named(model: GraphModel, outputs: Any) -> dict[str, torch.Tensor]:
    if model.output_names is not None:
        return dict(zip(model.output_names, outputs, strict=True))
    if model.program is not None and model.program.call_spec.out_spec is not None:
        outputs = pytree.tree_unflatten(list(outputs[model.mutations :]), model.program.call_spec.out_spec)
    elif isinstance(outputs, (list, tuple)) and len(outputs) == 1:
        outputs = outputs[0]
    return named_outputs(outputs)


def _to(leaf: Any, device: torch.device) -> Any:
    return leaf.to(device) if isinstance(leaf, torch.Tensor) and leaf.device != device else leaf


def _uncompiled() -> AbstractContextManager[Any]:
    """While this lasts, what ``torch.compile`` gave runs as it was before, so that every function call is seen."""
    # the compiler takes a while to import; without it nothing is compiled
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _kept(module: nn.Module) -> Iterator[None]:
    """What a forward pass may write to is as before in the end: buffers, and tables that ``max_norm`` shortens.

    Parameters are shared with the user's model, and counters or caches that an example filled are no part of a result.
    """
    with torch._C.DisableTorchFunction():  # who records the run does not see the copies
        held = [
            (tensors, name, tensor, tensor._version, tensor.detach().clone())
            for owner in module.modules()
            for tensors, name, tensor in _written(owner)
            if not tensor.is_inference()
        ]
    try:
        yield
    finally:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            for tensors, name, tensor, version, values in held:
                tensors[name] = tensor
                if tensor._version != version:
                    tensor.copy_(values)


def _written(owner: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    codes = {id(part) for name in weights_of(owner) for part in parts_of(owner, name).values()}
    for name, buffer in owner._buffers.items():
        if buffer is not None and id(buffer) not in codes:
            yield owner._buffers, name, buffer
    if getattr(owner, "max_norm", None) is not None:
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                yield owner._parameters, name, parameter


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode; each part is put back into its own mode."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
