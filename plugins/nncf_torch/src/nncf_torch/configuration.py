"""What compression did to a module, as plain data, so that a ``state_dict`` is all that need be stored of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from attrs import asdict
from torch import nn

from nncf_core.errors import UnsupportedModelError, ValidationError
from nncf_core.numerics.formats import FORMATS
from nncf_core.transformations import MaskKind, PointKind, TargetPoint, masks
from nncf_torch.batch_norm import FoldedBatchNorm, put_folded
from nncf_torch.branches import branches_of, put_branch
from nncf_torch.compressed_modules import put_compressed, put_mask, put_trained
from nncf_torch.edited_modules import Multiplication, add_multiplication, multiplications_of
from nncf_torch.masks import Mask, let_count, new_mask
from nncf_torch.places import places
from nncf_torch.quantizers import PointQuantizer, is_quantized, let_quantize, quantizers_of
from nncf_torch.rounded_weights import Rounding, held, hold, put_rounding
from nncf_torch.sharing import shared_copy
from nncf_torch.shrinking import place_shrunk, shrunk_constants
from nncf_torch.stored import PARTS, Stored
from nncf_torch.tensors import device_of, dtype_name, torch_dtype
from nncf_torch.trained_weights import Trained, freeze

_STATE = "compression_state"
_WEIGHT, _TRAINED, _MULTIPLICATION = "CompressedWeight", "TrainedWeight", "Multiplication"
_MASKED = "MaskedWeight"
_FOLDED, _ROUNDED, _QUANTIZED = "FoldedBatchNorm", "RoundedWeight", "QuantizedModule"
_BRANCH, _SHRUNK = "LowRankBranch", "ShrunkConstant"


def get_config(model: nn.Module) -> dict[str, Any]:
    """What compression did to a model: JSON data that :func:`load_from_config` does again to a new one.

    :param model: a module that :func:`nncf.compress_weights` or :func:`nncf.quantize` gave.
    :return: ``{"compression_state": [...]}``, with an entry for each shrunk, compressed, rounded or trained weight,
        each mask, multiplication, low-rank branch and folded normalization, and the quantizers of each module that was
        quantized. An entry has all names of a shared weight.
    :raises UnsupportedModelError: when the model is no ``torch.nn.Module``.
    """
    _check_module(model)
    entries = (_shrunk, _folded, _branches, _weights, _trained, _rounded, _masked, _multiplications, _quantized)
    return {_STATE: [entry for kind in entries for entry in kind(model)]}


def load_from_config(model: nn.Module, config: Mapping[str, Any], example_input: Any = None) -> nn.Module:
    """The model with places for what compression stored; ``load_state_dict`` fills them.

    :param model: the model before compression. It is not changed; its parameters are shared.
    :param config: from :func:`get_config`.
    :param example_input: not needed; taken so that scripts written for it run.
    :return: a new model.
    :raises ValidationError: when the config is not one, or belongs to another model.
    """
    _check_module(model)
    entries = config.get(_STATE) if isinstance(config, Mapping) else None
    if not isinstance(entries, list):
        raise ValidationError(f"The config has no list {_STATE!r}; nncf.torch.get_config(model) makes one.")
    result = shared_copy(model)
    kinds = set()
    for index, entry in enumerate(entries):
        where = f"config.{_STATE}[{index}]"
        try:
            names, kind, values = entry["hook_names_in_model"], entry["module_cls_name"], entry["module_config"]
            if kind not in _PLACES:
                raise ValidationError(f"{where}: unknown kind {kind!r}.")
            _PLACES[kind](result, names, values)
            kinds.add(kind)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            if isinstance(error, ValidationError):
                raise
            raise ValidationError(f"{where} does not fit the model: {error}") from None
    if _TRAINED in kinds:
        freeze(result)
    return result


def _shrunk(model: nn.Module) -> Iterator[dict[str, Any]]:
    for names, values in shrunk_constants(model):
        yield {"hook_names_in_model": names, "module_cls_name": _SHRUNK, "module_config": values}


def _weights(model: nn.Module) -> Iterator[dict[str, Any]]:
    paths = {id(module): path for path, module in model.named_modules()}
    for place in places(model).values():
        stored = place.stored
        if stored is None:
            continue
        names = [f"{paths[id(owner)]}.{name}".lstrip(".") for owner, name in place.owners]
        parts = {name: _described(part) for name, part in place.parts.items()}
        yield {
            "hook_names_in_model": names,
            "module_cls_name": _WEIGHT,
            "module_config": {**_plain(stored), "parts": parts},
        }


def _plain(stored: Stored) -> dict[str, Any]:
    return {
        **stored._asdict(),
        "shape": list(stored.shape),
        "dtype": dtype_name(stored.dtype),
        "reduction_axes": list(stored.reduction_axes),
    }


def _trained(model: nn.Module) -> Iterator[dict[str, Any]]:
    paths = {id(module): path for path, module in model.named_modules()}
    for place in places(model).values():
        trained = place.trained
        if trained is not None:
            yield {
                "hook_names_in_model": [f"{paths[id(owner)]}.{name}".lstrip(".") for owner, name in place.owners],
                "module_cls_name": _TRAINED,
                "module_config": {
                    **_plain(trained.stored),
                    "half": trained.half,
                    "rank": trained.rank,
                    "active_rank": trained.active_rank,
                },
            }


def _rounded(model: nn.Module) -> Iterator[dict[str, Any]]:
    paths = {id(module): path for path, module in model.named_modules()}
    for place in places(model).values():
        rounding = place.rounding
        if rounding is not None:
            scale, zero_point = held(*place.owners[0])
            yield {
                "hook_names_in_model": [f"{paths[id(owner)]}.{name}".lstrip(".") for owner, name in place.owners],
                "module_cls_name": _ROUNDED,
                "module_config": {
                    **asdict(rounding),
                    "shape": list(place.shape),
                    "scales": scale.numel(),
                    "trained_zero_point": isinstance(zero_point, nn.Parameter),
                },
            }


def _masked(model: nn.Module) -> Iterator[dict[str, Any]]:
    paths = {id(module): path for path, module in model.named_modules()}
    for place in places(model).values():
        mask = place.mask
        if mask is not None:
            yield {
                "hook_names_in_model": [f"{paths[id(owner)]}.{name}".lstrip(".") for owner, name in place.owners],
                "module_cls_name": _MASKED,
                "module_config": {**mask._asdict(), "shape": list(mask.shape), "full": list(mask.full)},
            }


def _quantized(model: nn.Module) -> Iterator[dict[str, Any]]:
    for path, module in model.named_modules():
        if not is_quantized(module):
            continue
        quantizers = []
        for quantizer in quantizers_of(module):
            scale, zero_point = held(module.get_submodule(quantizer.owner), quantizer.prefix)
            point = quantizer.point
            quantizers.append(
                {
                    **asdict(quantizer),
                    "point": {"node": point.node, "kind": point.kind.value, "port": point.port},
                    "scales": scale.numel(),
                    "trained_zero_point": isinstance(zero_point, nn.Parameter),
                }
            )
        yield {
            "hook_names_in_model": [path],
            "module_cls_name": _QUANTIZED,
            "module_config": {"quantizers": quantizers},
        }


def _folded(model: nn.Module) -> Iterator[dict[str, Any]]:
    for path, module in model.named_modules():
        if isinstance(module, FoldedBatchNorm):
            # the model may have become a part of another one since
            prefix = path.removesuffix(module.path)
            yield {
                "hook_names_in_model": [path],
                "module_cls_name": _FOLDED,
                "module_config": {"layer": f"{prefix}{module.layer}"},
            }


def _branches(model: nn.Module) -> Iterator[dict[str, Any]]:
    for path, branch in branches_of(model):
        down, up = branch.down.weight, branch.up.weight
        values = {"inputs": down.shape[1], "rank": down.shape[0], "outputs": up.shape[0], "dtype": dtype_name(up.dtype)}
        yield {"hook_names_in_model": [path], "module_cls_name": _BRANCH, "module_config": values}


def _multiplications(model: nn.Module) -> Iterator[dict[str, Any]]:
    for path, module in model.named_modules():
        for edit in multiplications_of(module):
            factor = module._buffers[edit.buffer]
            assert factor is not None
            values = {"name": edit.name, "buffer": edit.buffer, "at_input": edit.at_input, "operation": edit.operation}
            values |= _described(factor)
            yield {"hook_names_in_model": [path], "module_cls_name": _MULTIPLICATION, "module_config": values}


def _described(tensor: torch.Tensor) -> dict[str, Any]:
    return {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape)}


def _empty(values: Mapping[str, Any], device: torch.device) -> torch.Tensor:
    return torch.zeros(values["shape"], dtype=torch_dtype(values["dtype"]), device=device)


def _place_weight(model: nn.Module, names: list[str], values: Mapping[str, Any]) -> None:
    stored = _stored(names, values)
    if not set(values["parts"]) <= set(PARTS):
        raise ValidationError(f"The config of {names[0]!r} has parts that are not known: {list(values['parts'])}.")
    owners = [(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names]
    tensors = [getattr(owner, attribute) for owner, attribute in owners]
    _check_shapes(names, tensors, stored.shape)
    parts = {name: _empty(part, tensors[0].device) for name, part in values["parts"].items()}
    for owner, attribute in owners:
        put_compressed(owner, attribute, stored, parts)


def _place_trained(model: nn.Module, names: list[str], values: Mapping[str, Any]) -> None:
    rank, active = int(values["rank"]), int(values["active_rank"])
    trained = Trained(_stored(names, values), bool(values["half"]), rank, active)
    owners = [(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names]
    tensors = [getattr(owner, attribute) for owner, attribute in owners]
    _check_shapes(names, tensors, trained.stored.shape)
    device = tensors[0].device
    parts = {part: nn.Parameter(torch.zeros(shape, device=device)) for part, shape in trained.shapes().items()}
    for owner, attribute in owners:
        put_trained(owner, attribute, trained, parts)


def _stored(names: list[str], values: Mapping[str, Any]) -> Stored:
    fields = {name: values[name] for name in Stored._fields if name in values or name not in Stored._field_defaults}
    fields |= {"shape": tuple(fields["shape"]), "reduction_axes": tuple(fields["reduction_axes"])}
    stored = Stored(**{**fields, "dtype": torch_dtype(values["dtype"])})
    if stored.format not in FORMATS:
        raise ValidationError(f"The config of {names[0]!r} has the format {stored.format!r}, which is not known.")
    return stored


def _place_multiplication(model: nn.Module, names: list[str], values: Mapping[str, Any]) -> None:
    module = model.get_submodule(names[0])
    device = device_of(module)
    operation = values.get("operation", "multiply")
    edit = Multiplication(values["name"], values["buffer"], bool(values["at_input"]), operation)
    add_multiplication(module, edit, _empty(values, device))


def _place_branch(model: nn.Module, names: list[str], values: Mapping[str, Any]) -> None:
    module = model.get_submodule(names[0])
    device = device_of(module)
    inputs, rank, outputs = (int(values[name]) for name in ("inputs", "rank", "outputs"))
    put_branch(module, inputs, rank, outputs, torch_dtype(values["dtype"]), device)


def _place_rounding(model: nn.Module, names: list[str], values: Mapping[str, Any]) -> None:
    owners = [(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names]
    tensors = [getattr(owner, attribute) for owner, attribute in owners]
    _check_shapes(names, tensors, tuple(values["shape"]))
    rounding = Rounding(
        values["lo"], values["hi"], values["axis"], values.get("float8"), bool(values.get("active", True))
    )
    parts = _empty_parts(values, tensors[0].device)
    for owner, attribute in owners:
        put_rounding(owner, attribute, rounding, *parts)


def _place_mask(model: nn.Module, names: list[str], values: Mapping[str, Any]) -> None:
    owners = [(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names]
    tensors = [getattr(owner, attribute) for owner, attribute in owners]
    shape, full, kind = tuple(values["shape"]), tuple(values["full"]), MaskKind(values["kind"])
    _check_shapes(names, tensors, full)
    if not masks(full, shape):
        raise ValidationError(f"The config of {names[0]!r} has a mask of the shape {list(shape)}, which does not fit.")
    _, parts = new_mask(kind, torch.zeros(shape), names[0], full, tensors[0].device)
    mask = Mask(kind.value, shape, full, int(values["seed"]), bool(values["sampling"]))
    for owner, attribute in owners:
        put_mask(owner, attribute, mask, parts)
    if kind is MaskKind.SAMPLED:
        let_count(model)


def _place_quantizers(model: nn.Module, names: list[str], values: Mapping[str, Any]) -> None:
    root = model.get_submodule(names[0])
    device = device_of(root)
    found = []
    for quantizer in values["quantizers"]:
        point = quantizer["point"]
        fields = {field: quantizer[field] for field in ("name", "owner", "prefix", "lo", "hi", "axis")}
        target = TargetPoint(point["node"], PointKind(point["kind"]), point["port"])
        active = bool(quantizer.get("active", True))
        found.append(PointQuantizer(point=target, float8=quantizer.get("float8"), active=active, **fields))
        hold(root.get_submodule(quantizer["owner"]), quantizer["prefix"], *_empty_parts(quantizer, device))
    let_quantize(root).quantizers = tuple(found)


def _place_folded(model: nn.Module, names: list[str], values: Mapping[str, Any]) -> None:
    put_folded(model, names[0], values["layer"])


def _empty_parts(values: Mapping[str, Any], device: torch.device) -> tuple[nn.Parameter, torch.Tensor]:
    zeros = torch.zeros(values["scales"], device=device)
    zero_point = torch.zeros(values["scales"], device=device)
    return nn.Parameter(zeros), nn.Parameter(zero_point) if values["trained_zero_point"] else zero_point


def _check_shapes(names: list[str], tensors: list[torch.Tensor], shape: tuple[int, ...]) -> None:
    for name, tensor in zip(names, tensors, strict=True):
        if tuple(tensor.shape) != shape:
            raise ValidationError(
                f"The config is of another model: {name!r} has the shape {list(tensor.shape)} here, and "
                f"{list(shape)} there."
            )


_PLACES = {
    _SHRUNK: place_shrunk,
    _WEIGHT: _place_weight,
    _TRAINED: _place_trained,
    _MULTIPLICATION: _place_multiplication,
    _BRANCH: _place_branch,
    _FOLDED: _place_folded,
    _ROUNDED: _place_rounding,
    _MASKED: _place_mask,
    _QUANTIZED: _place_quantizers,
}


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(
            f"A {type(model).__name__} has no config: save exported programs with torch.export.save. Modules have one."
        )
