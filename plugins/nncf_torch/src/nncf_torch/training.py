"""A model in training: handles of its masks and quantizers, and the original beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, frozen
from torch import fx, nn
from torch.utils import _pytree as pytree

from nncf_core.dataset import Dataset
from nncf_core.errors import InternalError, UnsupportedDatasetError, UnsupportedModelError, ValidationError
from nncf_core.numerics.quantizer import Quantizer
from nncf_core.training.contracts import Tuner
from nncf_core.transformations import MaskKind
from nncf_torch.configuration import get_config
from nncf_torch.inputs import Call, bound, named_leaves
from nncf_torch.masks import MASKS, evaluated, evaluated_weight, mask_parts_of, masks_of
from nncf_torch.module_model import ModuleModel
from nncf_torch.opening import is_aten, open_model
from nncf_torch.places import Place, identity, places
from nncf_torch.quantizers import PointQuantizer, at_rest, let_quantize, quantizers_of
from nncf_torch.rounded_weights import Rounding, held, put_active, quantizer_from
from nncf_torch.running import on_device

_ORDER = "parameters"


@frozen(eq=False)
class ModuleMask:
    """The mask of a weight; see :class:`nncf_core.training.contracts.MaskHandle`."""

    constant: str
    place: Place

    @property
    def kind(self) -> MaskKind:
        """Where its zeros and ones come from."""
        owner, name = self.place.owners[0]
        return MaskKind(masks_of(owner)[name].kind)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mask, as it was inserted."""
        owner, name = self.place.owners[0]
        return masks_of(owner)[name].shape

    def weight(self) -> torch.Tensor:
        """The weight's values without the mask."""
        owner, name = self.place.owners[0]
        tensor: torch.Tensor | None = owner._parameters.get(name)
        tensor = owner._buffers[name] if tensor is None else tensor
        assert tensor is not None
        return tensor.detach()

    def mask(self) -> torch.Tensor:
        """What the mask is in evaluation, in the weight's shape and element type."""
        with torch.no_grad():
            return evaluated_weight(*self.place.owners[0], torch.ones_like(self.weight()))

    def assign(self, mask: Any) -> None:
        """Set a fixed mask; the parameters of a trained one become 1 and -1, and its threshold 0."""
        trained = self.kind is not MaskKind.FIXED
        with torch.no_grad():
            for part in self._parts("mask_scores" if trained else "mask"):
                kept = (torch.as_tensor(mask, device=part.device) != 0).expand(part.shape)
                part.copy_(kept.to(part.dtype) * 2 - 1 if trained else kept)
        if self.kind is MaskKind.SCORED:
            self.threshold(0.0)

    def kept(self) -> torch.Tensor:
        """How many elements of the weight are kept in evaluation."""
        value = evaluated(*self.place.owners[0]).to(torch.float32)
        return value.sum() * (self.weight().numel() // value.numel())

    def parameters(self) -> torch.Tensor:
        """The parameters of a trained mask."""
        return self._parts("mask_scores")[0]

    def threshold(self, value: float) -> None:
        """Set the number that scores have to exceed."""
        for part in self._parts("mask_threshold"):
            part.fill_(value)

    def freeze(self, *, sampling: bool = False) -> None:
        """Let scores get no gradients; where ``sampling`` is off, masks are those of evaluation."""
        self.parameters().requires_grad_(False)
        for owner, name in self.place.owners:
            found = masks_of(owner)
            owner.__dict__[MASKS] = {**found, name: found[name]._replace(sampling=sampling)}

    def scale_gradients(self, factor: float) -> None:
        """Multiply gradients of scores from now on."""
        _scale_gradients(self.parameters(), factor)

    def _parts(self, part: str) -> list[torch.Tensor]:
        found = {
            id(t): t for owner, name in self.place.owners for k, t in mask_parts_of(owner, name).items() if k == part
        }
        if not found:
            raise InternalError(f"The mask of {self.constant!r} is {self.kind.value}, and so has no {part!r}.")
        return list(found.values())


@frozen(eq=False)
class WeightQuantizer:
    """The rounding of a weight; see :class:`nncf_core.training.contracts.QuantizerHandle`."""

    target: str
    place: Place
    is_weight: bool = True

    @property
    def is_active(self) -> bool:
        """Whether it acts."""
        return self._rounding.active

    @property
    def is_symmetric(self) -> bool:
        """Whether zero points are not trained."""
        return not isinstance(held(*self.place.owners[0])[1], nn.Parameter)

    def quantizer(self) -> Quantizer:
        """What it does when it acts."""
        rounding = self._rounding
        return quantizer_from(*held(*self.place.owners[0]), rounding.lo, rounding.hi, rounding.axis, rounding.float8)

    @property
    def _rounding(self) -> Rounding:
        assert self.place.rounding is not None
        return self.place.rounding

    def enable(self, active: bool) -> None:
        """Round it, or leave it as it is for the time being."""
        for owner, name in self.place.owners:
            put_active(owner, name, active)

    def scale_gradients(self, factor: float) -> None:
        """Multiply gradients of scale and zero point from now on."""
        for tensor in held(*self.place.owners[0]):
            _scale_gradients(tensor, factor)


@frozen(eq=False)
class ActivationQuantizer:
    """A quantizer of an activation; see :class:`nncf_core.training.contracts.QuantizerHandle`."""

    target: str
    root: nn.Module
    name: str
    is_weight: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it acts."""
        return self._quantizer().active

    @property
    def is_symmetric(self) -> bool:
        """Whether the zero point is not trained."""
        return not isinstance(self._held()[1], nn.Parameter)

    def quantizer(self) -> Quantizer:
        """What it does when it acts."""
        q = self._quantizer()
        return quantizer_from(*self._held(), q.lo, q.hi, q.axis, q.float8)

    def enable(self, active: bool) -> None:
        """Let it act, or let tensors through."""
        quantizing = let_quantize(self.root)
        changed = [evolve(q, active=active) if q.name == self.name else q for q in quantizing.quantizers]
        quantizing.quantizers = tuple(changed)

    def scale_gradients(self, factor: float) -> None:
        """Multiply gradients of scale and zero point from now on."""
        for tensor in self._held():
            _scale_gradients(tensor, factor)

    def _held(self) -> tuple[nn.Parameter, torch.Tensor]:
        quantizer = self._quantizer()
        return held(self.root.get_submodule(quantizer.owner), quantizer.prefix)

    def _quantizer(self) -> PointQuantizer:
        return next(quantizer for quantizer in quantizers_of(self.root) if quantizer.name == self.name)


def _scale_gradients(tensor: torch.Tensor, factor: float) -> None:
    if tensor.requires_grad and factor != 1:
        tensor.register_hook(lambda gradient: gradient * factor)  # type: ignore[no-untyped-call]


class RunTeacher:
    """Forward hooks of a model in training: the original runs on the same inputs. It is a teacher, too.

    It runs before the model, which may change its inputs. See :class:`nncf_core.training.contracts.Teacher`.
    """

    def __init__(self, original: nn.Module) -> None:
        # a model that is copied or saved leaves the original where it is
        self._original = original
        self._outputs: list[tuple[torch.Tensor, torch.Tensor]] | None = None
        self._wanted: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> RunTeacher:
        return RunTeacher(self._original)

    def __reduce__(self) -> tuple[Any, ...]:
        return RunNothing, ()

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the original."""
        # what an earlier pass gave is none of this one's
        self._outputs, self._wanted = None, None
        if not module.training:
            return
        device = next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))
        own = next((t.device for t in (*self._original.parameters(), *self._original.buffers())), device)
        if own != device:
            self._original.to(device)
        call = on_device(module, Call(args, kwargs))
        # the original may change its inputs, too
        args, kwargs = pytree.tree_map(_copied, (call.args, dict(call.kwargs)))
        with at_rest(module), torch.no_grad():
            self._wanted = self._original(*args, **kwargs)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Keep what both gave."""
        if module.training:
            self._outputs, self._wanted = list(_pairs(output, self._wanted)), None

    def outputs(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        """Pairs of the last forward pass.

        :raises InternalError: when there was none in training mode.
        """
        if self._outputs is None:
            raise InternalError(
                "Distillation compares outputs of a forward pass in training mode, and the last one was none: call "
                "model.train(), and leave the term out of validation."
            )
        return self._outputs


class RunNothing:
    """What is left of a teacher in a model that was pickled."""

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do nothing."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Do nothing."""


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _pairs(output: Any, wanted: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    # outputs may be objects of a class of the model's library
    found, originals = (dict(named_leaves(_plain(value))) for value in (output, wanted))
    return [
        (tensor, originals[name])
        for name, tensor in found.items()
        if name in originals and tensor.is_floating_point() and tensor.shape == originals[name].shape
    ]


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


class TrainedModule:
    """See :class:`nncf_core.training.contracts.TrainedModel`."""

    def __init__(self, working: ModuleModel, original: nn.Module, dataset: Dataset[Any, Any] | None, new: bool) -> None:
        self._working, self._original, self._dataset, self.is_new = working, original, dataset, new
        self._teacher: RunTeacher | None = None
        self.tuner: Tuner | None = None

    @property
    def model(self) -> nn.Module:
        """The module."""
        module: nn.Module = self._working.module
        return module

    def masks(self) -> dict[str, ModuleMask]:
        """Masks by the names of their weights."""
        found = places(self.model)
        return {name: ModuleMask(name, place) for name, place in found.items() if place.mask is not None}

    def quantizers(self) -> Sequence[WeightQuantizer | ActivationQuantizer]:
        """Those of weights, then those of activations."""
        rounded = [(name, place) for name, place in places(self.model).items() if place.rounding is not None]
        weights = [WeightQuantizer(name, place) for name, place in rounded]
        return [*weights, *(ActivationQuantizer(str(q.point), self.model, q.name) for q in quantizers_of(self.model))]

    def teacher(self) -> RunTeacher:
        """The original beside the model, the same one each time."""
        if self._teacher is None:
            from nncf_torch.sharing import shared_copy

            original = shared_copy(self._original).eval().requires_grad_(False)
            self._teacher = RunTeacher(original)
            self.model.register_forward_pre_hook(self._teacher.before, with_kwargs=True)
            self.model.register_forward_hook(self._teacher, with_kwargs=True)
        return self._teacher

    def tensors(self) -> dict[str, torch.Tensor]:
        """A copy of the state."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put a state back."""
        self.model.load_state_dict(tensors)

    def description(self) -> Mapping[str, Any]:
        """What :func:`nncf.torch.get_config` gives, and the order of parameters, by which optimizers know them."""
        order = [name for name, _ in self.model.named_parameters(remove_duplicate=False)]
        return {**get_config(self.model), _ORDER: order}

    def export(
        self,
        model: nn.Module,
        path: Path,
        save_format: str | None,
        input_names: Sequence[str] | None,
        output_names: Sequence[str] | None,
        model_args: tuple[Any, ...] | None,
    ) -> None:
        """Write ``.onnx`` (``save_format`` ``onnx``, ``onnx_<opset>``) or ``.pt2``."""
        from nncf_torch.exporting import export_module

        example = self._working.example if model_args is None else Call(tuple(model_args), {})
        if example is None:
            raise ValidationError("There is no input to trace the model with; give model_args.")
        export_module(model, bound(model, example), path, save_format, input_names, output_names)

    def adapt_batch_norm(self, samples: int | None) -> None:
        """See :func:`nncf_torch.batch_norm_adaptation.adapt`."""
        from nncf_torch.batch_norm_adaptation import adapt

        if self._dataset is None:
            raise UnsupportedDatasetError(
                "Adapting batch normalization needs data: register a loader with "
                "nncf.torch.register_default_init_args, or set num_bn_adaptation_samples to 0."
            )
        batch = self._dataset.get_batch_size() or 1
        adapt(self.model, self._dataset.get_inference_data(), None if samples is None else -(-samples // batch))


def trained(working: Any, original: Any, dataset: Dataset[Any, Any] | None, *, new: bool) -> TrainedModule:
    """Handles of a working model, which gets memory of its own.

    :raises UnsupportedModelError: for programs.
    """
    if not isinstance(working, ModuleModel):
        raise UnsupportedModelError("Programs are not trained; give the torch.nn.Module that this one was made from.")
    others = {identity(tensor) for tensor in original.parameters()}
    for parameter in working.module.parameters():
        # parameters of classes of their own are the very objects of the original
        if type(parameter) is nn.Parameter and identity(parameter) in others:
            parameter.data = parameter.detach().clone()
    return TrainedModule(working, original, dataset, new)


def resumed(model: Any, dataset: Dataset[Any, Any] | None) -> TrainedModule:
    """Handles of a module that is in training already.

    :raises UnsupportedModelError: for programs.
    """
    if not isinstance(model, nn.Module) or (isinstance(model, fx.GraphModule) and is_aten(model)):
        raise UnsupportedModelError(
            f"A {type(model).__name__} is not trained; give the torch.nn.Module that this one was made from."
        )
    return TrainedModule(ModuleModel(model), model, dataset, new=False)


def restored(original: Any, description: Mapping[str, Any], options: Mapping[str, Any]) -> ModuleModel:
    """A working model to which was done what a description tells.

    :raises ValidationError: when it is of another model.
    """
    from nncf_torch.configuration import load_from_config

    opened = open_model(original, options)
    if not isinstance(opened, ModuleModel):
        raise UnsupportedModelError("Programs are not trained; give the torch.nn.Module that this one was made from.")
    opened.module = load_from_config(original, description)
    _reorder(opened.module, description.get(_ORDER, ()))
    return opened


def _reorder(model: nn.Module, names: Sequence[str]) -> None:
    """Let modules hold parameters in the order of a list of their names; others come last."""
    places_in_order = {name: index for index, name in enumerate(names)}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        held_here = sorted(
            module._parameters.items(), key=lambda item: places_in_order.get(f"{prefix}{item[0]}", len(names))
        )
        module._parameters.clear()
        module._parameters.update(held_here)
