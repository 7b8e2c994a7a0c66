"""Modules whose weights are stored compressed, or rounded whenever they are read.

A module gets the tensors of :mod:`nncf_torch.stored` as buffers in place of the parameter, and a class made from its
own that has a property of the parameter's name, which decompresses. So everything that reads ``module.weight`` works
as before: the module's own ``forward``, and code elsewhere that takes the weight of another module. Weights that are
trained (:mod:`nncf_torch.trained_weights`) stay parameters; there the property rounds. Where there is a mask
(:mod:`nncf_torch.masks`), the property multiplies by it, before it rounds. The class of a module whose activations are
quantized (:mod:`nncf_torch.quantizers`) has a ``__call__`` that starts and ends that, whatever happens in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from nncf_torch.attributes import SURROUNDING, check_free, free_suffix, part_name
from nncf_torch.masks import MASK_PARTS, MASKS, Mask, apply_mask, mask_value, masks_of, names_of_mask_parts
from nncf_torch.recurrent import forget_list, make_list, members_of
from nncf_torch.rounded_weights import drop_rounding
from nncf_torch.stored import PARTS, Stored, decompress, decompress_rows, is_by_row
from nncf_torch.trained_weights import (
    TRAINED,
    TRAINED_PARTS,
    Trained,
    has_own_rows,
    names_of_parts,
    trained_parts_of,
    trained_rows,
    trained_value,
    trainings_of,
)

_WEIGHTS = "_compressed_weights"
"""Attribute of a module: :class:`~nncf_torch.stored.Stored` by name of the weight."""


class Surrounding(Protocol):
    """Gives what is entered when a module is called, and left whatever happens."""

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        """For a call with these arguments."""


def surrounding_of(module: nn.Module) -> Surrounding | None:
    """What surrounds the calls of a module."""
    return module.__dict__.get(SURROUNDING)


def put_surrounding(module: nn.Module, surrounding: Surrounding) -> None:
    """Let the calls of a module be surrounded from now on."""
    module.__dict__[SURROUNDING] = surrounding
    _reclass(module)


def weights_of(module: nn.Module) -> Mapping[str, Stored]:
    """The compressed weights that a module itself holds, by name."""
    found: Mapping[str, Stored] = module.__dict__.get(_WEIGHTS, {})
    return found


def parts_of(module: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a compressed weight."""
    names = _part_names(module, name)
    buffers = {part: module._buffers.get(key) for part, key in zip(PARTS, names, strict=True)}
    return {part: buffer for part, buffer in buffers.items() if buffer is not None}


def names_of_stored_parts(module: nn.Module) -> set[str]:
    """Names of the tensors of all compressed weights of a module."""
    return {key for name in weights_of(module) for key in _part_names(module, name)}


def _part_names(module: nn.Module, name: str) -> list[str]:
    stored = weights_of(module).get(name)
    return [part_name(name, part, "" if stored is None else stored.suffix) for part in PARTS]


def compress_everywhere(
    owners: tuple[tuple[nn.Module, str], ...], stored: Stored, parts: Mapping[str, torch.Tensor]
) -> Stored:
    """Let the modules that share a weight hold it in this form, under names that none of them uses for anything else.

    :return: the form, with the end of these names.
    """
    for module, name in owners:
        _make_plain(module, name)
        drop_mask(module, name)

    def is_free(suffix: str) -> bool:
        return not any(hasattr(module, part_name(name, part, suffix)) for module, name in owners for part in PARTS)

    stored = stored._replace(suffix=free_suffix(is_free))
    for module, name in owners:
        put_compressed(module, name, stored, parts)
    return stored


def put_compressed(module: nn.Module, name: str, stored: Stored, parts: Mapping[str, torch.Tensor]) -> None:
    """Let a module hold a weight in this form, in place of what it held under the name.

    :raises ValidationError: when the module has attributes of the names of the tensors.
    """
    _make_plain(module, name)
    drop_mask(module, name)
    check_free(module, name, (part_name(name, part, stored.suffix) for part in parts))
    module._parameters.pop(name, None)
    module._buffers.pop(name, None)
    module._non_persistent_buffers_set.discard(name)
    module.__dict__[_WEIGHTS] = {**weights_of(module), name: stored}
    _reclass(module)
    for part, tensor in parts.items():
        module.register_buffer(part_name(name, part, stored.suffix), tensor)


def put_float(module: nn.Module, name: str, tensor: torch.Tensor, *, parameter: bool) -> None:
    """Let a module hold a weight as a parameter, or as a buffer, in place of what it held under the name."""
    _make_plain(module, name)
    if name in module._parameters or parameter:
        # by setattr: recurrent modules keep a list of their weights, too
        setattr(module, name, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False))
    else:
        persistent = name not in module._non_persistent_buffers_set
        module.register_buffer(name, tensor, persistent=persistent)


def put_trained(module: nn.Module, name: str, trained: Trained, parts: Mapping[str, nn.Parameter]) -> None:
    """Let a weight of a module, which stays as it is, be rounded whenever it is read."""
    _make_plain(module, name)
    check_free(module, name, (f"{name}_{part}" for part in parts))
    module.__dict__[TRAINED] = {**trainings_of(module), name: trained}
    _reclass(module)
    for part, parameter in parts.items():
        module.register_parameter(f"{name}_{part}", parameter)


def put_mask(module: nn.Module, name: str, mask: Mask, parts: Mapping[str, torch.Tensor]) -> None:
    """Let a weight of a module be multiplied by a mask whenever it is read, in place of an earlier one."""
    drop_mask(module, name)
    check_free(module, name, (f"{name}_{part}" for part in parts))
    module.__dict__[MASKS] = {**masks_of(module), name: mask}
    _reclass(module)
    for part, tensor in parts.items():
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(f"{name}_{part}", tensor)
        else:
            module.register_buffer(f"{name}_{part}", tensor)


def drop_mask(module: nn.Module, name: str) -> None:
    """Let a weight be read as it is."""
    if name not in masks_of(module):
        return
    for part in MASK_PARTS:
        module._parameters.pop(f"{name}_{part}", None)
        module._buffers.pop(f"{name}_{part}", None)
    module.__dict__[MASKS] = {key: mask for key, mask in masks_of(module).items() if key != name}
    _reclass(module)


def _make_plain(module: nn.Module, name: str) -> None:
    """Let a weight be neither decompressed nor rounded."""
    drop_rounding(module, name)
    of_trained = [f"{name}_{part}" for part in TRAINED_PARTS]
    for kind, found, held, parts in (
        (_WEIGHTS, weights_of(module), module._buffers, _part_names(module, name)),
        (TRAINED, trainings_of(module), module._parameters, of_trained),
    ):
        if name in found:
            for part in parts:
                held.pop(part, None)
            module.__dict__[kind] = {key: value for key, value in found.items() if key != name}
            _reclass(module)


def _reclass(module: nn.Module) -> None:
    """Give a module the class for the weights that it holds."""
    base, weights, trained = uncompressed_class(module), weights_of(module), trainings_of(module)
    masks, surrounded = masks_of(module), surrounding_of(module) is not None
    if weights or trained or masks:
        forget_list(module)
        module.__class__ = compressed_class(base, tuple(weights), tuple(trained), tuple(masks), surrounded)
        return
    for kind in (_WEIGHTS, TRAINED, MASKS):
        module.__dict__.pop(kind, None)
    module.__class__ = weightless_class(module)
    make_list(module)


def weightless_class(module: nn.Module) -> type[nn.Module]:
    """The class that a module has when its weights are neither compressed nor masked nor trained."""
    base = uncompressed_class(module)
    return base if surrounding_of(module) is None else compressed_class(base, (), surrounded=True)


def uncompressed_class(module: nn.Module) -> type[nn.Module]:
    """The class that the user gave a module."""
    return module._uncompressed_class if isinstance(module, CompressedModule) else type(module)


class CompressedModule(nn.Module):
    """Mixed into the classes of modules with compressed weights."""

    _uncompressed_class: type[nn.Module]

    def __init_subclass__(cls, **_: Any) -> None:
        # not for the user's classes to know of, who may keep a register of theirs
        return

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # the class is made at run time: pickle is told how
        state: Any = self.__getstate__()  # type: ignore[no-untyped-call]
        names = tuple(weights_of(self)), tuple(trainings_of(self)), tuple(masks_of(self))
        return _made_anew, (self._uncompressed_class, *names, surrounding_of(self) is not None), state

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        # .half() and the like mean the weight, not what it is stored in
        before = {key: self._buffers[key] for key in self._stored_buffers()}
        exact_names = names_of_parts(self) | names_of_mask_parts(self)
        ranges = {key: self._parameters[key] for key in exact_names if key in self._parameters}
        exact = {key: None if tensor is None else tensor.data for key, tensor in ranges.items()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for key, tensor in before.items():
            after = self._buffers[key]
            if tensor is not None and after is not None and after.dtype != tensor.dtype:
                self._buffers[key] = tensor.to(after.device)
        for key, data in exact.items():
            parameter = self._parameters[key]
            if data is not None and parameter is not None and parameter.dtype != data.dtype:
                # small steps would be lost in fewer bits
                parameter.data = data.to(parameter.device)
        weights = weights_of(self)
        empty = {name: fn(torch.empty(0, dtype=stored.dtype)) for name, stored in weights.items()}
        changed = {name: stored._replace(dtype=empty[name].dtype) for name, stored in weights.items()}
        if weights:
            self.__dict__[_WEIGHTS] = {
                name: stored._replace(clipped=stored.clipped or stored.dtype != weights[name].dtype)
                for name, stored in changed.items()
            }
        return self

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Refuse a parameter in place of a compressed weight.

        :raises AttributeError: for the name of a compressed weight.
        """
        if name in weights_of(self):
            raise _taken(name)
        super().register_parameter(name, param)

    def _stored_buffers(self) -> list[str]:
        names = names_of_stored_parts(self) | names_of_mask_parts(self)
        return [name for name in self._buffers if name in names]


def _taken(name: str) -> AttributeError:
    return AttributeError(f"The weight {name!r} is compressed; nncf.strip with StripFormat.IN_PLACE restores it.")


def compressed_class(
    base: type[nn.Module],
    names: tuple[str, ...],
    trained: tuple[str, ...] = (),
    masked: tuple[str, ...] = (),
    surrounded: bool = False,
) -> type[nn.Module]:
    """A class that is ``base``, but that its weights are decompressed when they are read, masked or rounded.

    :param names: of the weights that are decompressed.
    :param trained: of those that are rounded.
    :param masked: of those that have a mask.
    :param surrounded: whether calls are, see :func:`put_surrounding`.
    """
    key = base, names, trained, masked, surrounded
    if key not in _CLASSES:
        _CLASSES[key] = _made_class(*key)
    return _CLASSES[key]


_CLASSES: dict[tuple[Any, ...], type[nn.Module]] = {}


def _made_class(
    base: type[nn.Module],
    names: tuple[str, ...],
    trained: tuple[str, ...],
    masked: tuple[str, ...],
    surrounded: bool,
) -> type[nn.Module]:
    members: dict[str, Any] = {name: _property(name) for name in names}
    members |= members_of(base) if names or trained or masked else {}
    members |= {name: _masked_property(name) for name in masked}
    members |= {name: _trained_property(name, name in masked) for name in trained}
    members |= {"_uncompressed_class": base, "__module__": base.__module__, "__doc__": base.__doc__}
    if issubclass(base, nn.Embedding) and base.forward is nn.Embedding.forward and "weight" in names + trained:
        members["forward"] = _look_up if names else _look_up_trained
    if surrounded:
        members["__call__"] = _surrounded_call
    title = "Compressed" if names else "Trained" if trained else "Masked" if masked else ""
    return type(f"{title}{base.__name__}", (CompressedModule, base), members)


def _made_anew(
    base: type[nn.Module],
    names: tuple[str, ...],
    trained: tuple[str, ...] = (),
    masked: tuple[str, ...] = (),
    surrounded: bool = False,
) -> nn.Module:
    cls = compressed_class(base, names, trained, masked, surrounded)
    return cls.__new__(cls)


def _surrounded_call(self: CompressedModule, *args: Any, **kwargs: Any) -> Any:
    """Call the module."""
    with self.__dict__[SURROUNDING](self, args, kwargs):
        return self._uncompressed_class.__call__(self, *args, **kwargs)


def _look_up(self: nn.Embedding, input: torch.Tensor) -> torch.Tensor:
    """What the module gives: rows are taken before they are decompressed, where nobody else reads the operators."""
    stored, parts = weights_of(self)["weight"], parts_of(self, "weight")
    if self.max_norm is not None or _is_watched() or not is_by_row(stored, parts["codes"]):
        return nn.Embedding.forward(self, input)
    return decompress_rows(stored, parts, input)


def _look_up_trained(self: nn.Embedding, input: torch.Tensor) -> torch.Tensor:
    """The same of a table that is rounded, where fewer rows are taken than it has."""
    trained, weight = trainings_of(self)["weight"], self._parameters["weight"]
    special = self.max_norm is not None or self.scale_grad_by_freq or self.sparse or "weight" in masks_of(self)
    if weight is None or special or _is_watched() or not has_own_rows(trained) or input.numel() >= len(weight):
        return nn.Embedding.forward(self, input)
    rows = trained_rows(trained, weight, trained_parts_of(self, "weight"), input)
    if self.padding_idx is None:
        return rows
    # its row gets no gradients
    return torch.where((input == self.padding_idx).unsqueeze(-1), rows.detach(), rows)


def _is_watched() -> bool:
    """Whether somebody records operators, or acts on functions, and so should see those that are well known."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state()
        or torch._C._len_torch_function_stack()
        or torch._C._len_torch_dispatch_stack()
    )


class _Trace(threading.local):
    """Weights that were decompressed while ``torch.jit.trace`` runs.

    Who reads a weight twice, or shares it, gets one value: OpenVINO's converter takes two decompressions of one
    constant for one, and then no longer recognises it.
    """

    state: Any = None
    weights: dict[int, torch.Tensor]

    def values(self) -> dict[int, torch.Tensor] | None:
        """Weights by identity of their codes; ``None`` when nothing is traced."""
        state = torch._C._get_tracing_state()
        if state is not self.state:
            self.state, self.weights = state, {}
        return None if state is None else self.weights


_TRACE = _Trace()


class _Read(threading.local):
    """Masked weights that were read once, and are the same tensors from then on: by the module's id and the name."""

    def __init__(self) -> None:
        self.values: dict[tuple[int, str], torch.Tensor] = {}


_READ = _Read()


@contextmanager
def read_once(root: nn.Module) -> Iterator[None]:
    """While this lasts, who reads a masked weight of a model in this thread gets the same tensor each time.

    It is another tensor than where this lasted already.
    """
    before, found = _READ.values, dict[tuple[int, str], torch.Tensor]()
    own = {id(module) for module in root.modules()}
    others = {key: value for key, value in before.items() if key[0] not in own}
    by_parameter: dict[int, torch.Tensor] = {}
    _READ.values = others
    try:
        for owner in root.modules():
            for name in masks_of(owner) if isinstance(owner, CompressedModule) else ():
                if name in trainings_of(owner):
                    continue
                parameter = id(owner._parameters.get(name))
                if parameter not in by_parameter or name not in owner._parameters:
                    by_parameter[parameter] = getattr(owner, name)
                found[id(owner), name] = by_parameter[parameter]
        _READ.values = {**others, **found}
        yield
    finally:
        _READ.values = before


def _property(name: str) -> property:
    # names of attributes are made here: torch.compile then reads them as constants
    weights, stems = _WEIGHTS, tuple(part_name(name, part) for part in PARTS)

    def read(self: nn.Module) -> torch.Tensor:
        buffers, stored = self._buffers, self.__dict__[weights][name]
        keys = [stem + stored.suffix for stem in stems]
        codes, scale = buffers[keys[0]], buffers[keys[1]]
        assert codes is not None
        assert scale is not None
        rest = [buffers.get(key) for key in keys[2:]]
        known = None if torch.compiler.is_compiling() else _TRACE.values()
        if known is None:
            return decompress(stored, codes, scale, *rest)
        if id(codes) not in known:
            known[id(codes)] = decompress(stored, codes, scale, *rest)
        return known[id(codes)]

    def write(self: nn.Module, _: Any) -> None:
        raise _taken(name)

    return property(read, write, doc="The decompressed weight.")


def _masked_property(name: str) -> property:
    masks, keys = MASKS, tuple(f"{name}_{part}" for part in MASK_PARTS)

    def read(self: nn.Module) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            known = _READ.values.get((id(self), name))
            if known is not None:
                return known
        weight: torch.Tensor | None = self._parameters.get(name)
        if weight is None:
            weight = self._buffers[name]
        assert weight is not None
        buffers = self._buffers
        parts = buffers.get(keys[0]), self._parameters.get(keys[1]), buffers.get(keys[2]), buffers.get(keys[3])
        mask: Mask = self.__dict__[masks][name]
        return apply_mask(weight, mask_value(mask, self.training, *parts), mask.blocks)

    return property(read, doc="The weight times its mask.")


def _trained_property(name: str, masked: bool) -> property:
    trainings, keys = TRAINED, tuple(f"{name}_{part}" for part in TRAINED_PARTS)
    as_masked = _masked_property(name).fget

    def read(self: nn.Module) -> torch.Tensor:
        parameters = self._parameters
        weight: torch.Tensor | None = parameters.get(name)
        if weight is None:
            weight = self._buffers[name]
        half_range = parameters[keys[0]]
        assert weight is not None
        assert half_range is not None
        if masked:
            assert as_masked is not None
            weight = as_masked(self)
        rest = [parameters.get(key) for key in keys[1:]]
        return trained_value(self.__dict__[trainings][name], weight, half_range, *rest)

    return property(read, doc="The rounded weight.")
