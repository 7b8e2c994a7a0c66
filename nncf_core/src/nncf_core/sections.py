"""Sections of a config: which algorithms run, with which parameters, on which nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import fields_dict, frozen, has

from nncf_core.catalogue import ALGORITHMS
from nncf_core.config.nncf_config import NNCFConfig
from nncf_core.config.schema import SCOPING_KEYS
from nncf_core.contracts import Algorithm, PlanningAlgorithm, refines
from nncf_core.controlling import controls
from nncf_core.errors import PluginError, ValidationError
from nncf_core.log import nncf_logger
from nncf_core.registry import Registry
from nncf_core.scopes import IgnoredScope, from_legacy
from nncf_core.structuring import structure, unstructure
from nncf_core.training.contracts import DelegatingAlgorithm

REDEFINABLE = ("compression_lr_multiplier", "target_device")
"""Keys of a config that sections redefine, where their algorithms have such parameters."""


@frozen
class Step:
    """A section.

    :param targets: the only nodes that the algorithm is to change; ``None``: all.
    :param lists_ignored: whether what is ignored is the config's ``ignored_scopes``.
    :param asked_by: name of the algorithm whose work it does; ``None``: it is a section of its own.
    :param statistics_path: where statistics are read, or left for the next run; ``None``: nowhere.
    """

    algorithm: Algorithm
    params: Any
    ignored: IgnoredScope
    statistics_path: Path | None = None
    targets: IgnoredScope | None = None
    lists_ignored: bool = False
    asked_by: str | None = None

    def described(self) -> dict[str, Any]:
        """The parameters as plain data, without those that have no value, or are many and all at their defaults."""
        values = {**unstructure(self.params), "ignored_scope": unstructure(self.ignored)}
        parts = {name: type(getattr(self.params, name, None)) for name in values}
        idle = {name for name, part in parts.items() if has(part) and values[name] == unstructure(part())}
        return {name: value for name, value in values.items() if value is not None and name not in idle}


def _sections(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    compression = config.get("compression", [])
    return [compression] if isinstance(compression, Mapping) else list(compression)


def steps_of(config: NNCFConfig, known: Registry) -> tuple[Step, ...]:
    """What the sections of a config say, in their order.

    Behind one that delegates its work stand those that do it.

    :raises ValidationError: when there is none, or parameters are not acceptable.
    """
    sections = _sections(config)
    if not sections:
        raise ValidationError('The config has no "compression" section: there is nothing to do.')
    steps: list[Step] = []
    for section in sections:
        name = section["algorithm"]
        algorithm = known.algorithms[name]
        fields = {k: v for k, v in section.items() if k not in SCOPING_KEYS}
        for key in REDEFINABLE:
            if key in config and key in fields_dict(algorithm.parameters):
                fields.setdefault(key, config[key])
        params = _parameters(algorithm, fields, f"compression.{name}")
        ignored, targets = _ignored_scope(config, section, name), _target_scope(config, section, name)
        listed = not section.get("ignored_scope")
        step = Step(algorithm, params, ignored, _statistics_path(config, section), targets, listed)
        steps += [step, *_delegates(step, known)]
    return tuple(steps)


def _parameters(algorithm: Algorithm, fields: Mapping[str, Any], where: str) -> Any:
    try:
        return structure(fields, algorithm.parameters, where)
    except ValidationError:
        raise
    except Exception as error:
        raise PluginError(f"Algorithm {algorithm.name!r} could not read its parameters: {error}") from error


def _delegates(step: Step, known: Registry) -> Iterator[Step]:
    """Those that do a step's work, on the same nodes."""
    if not isinstance(step.algorithm, DelegatingAlgorithm):
        return
    name = step.algorithm.name
    for section in step.algorithm.delegates(step.params):
        other = section["algorithm"]
        if other not in known.algorithms:
            package = ALGORITHMS.get(other)
            remedy = f"install it: pip install {package}" if package else "no installed plugin provides it"
            raise ValidationError(f"Algorithm {name!r} lets {other!r} do its work; {remedy}.")
        fields = {key: value for key, value in section.items() if key != "algorithm"}
        params = _parameters(known.algorithms[other], fields, f"compression.{name}, which asks {other!r}")
        yield Step(
            known.algorithms[other], params, step.ignored, step.statistics_path, step.targets, step.lists_ignored, name
        )


def refined_steps(steps: Iterable[Step]) -> list[tuple[Step, tuple[Step, ...]]]:
    """Each step with those that refine what it does.

    Those that delegate their work are left out.

    :raises ValidationError: when there is nothing to refine.
    """
    found: list[tuple[Step, tuple[Step, ...]]] = []
    for step in steps:
        if isinstance(step.algorithm, DelegatingAlgorithm):
            continue
        if not refines(step.algorithm):
            found.append((step, ()))
            continue
        if not found or not isinstance(found[-1][0].algorithm, PlanningAlgorithm):
            raise ValidationError(
                f"Algorithm {step.algorithm.name!r} refines what another does to weights: put its section behind that "
                'of one that compresses them, such as "weight_compression".'
            )
        before, refining = found[-1]
        found[-1] = before, (*refining, step)
    return found


def controlled_steps(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], Step | None]:
    """The steps that edit, and the one that decides which edits of the last of them are kept; ``None``: all are.

    :raises ValidationError: when there is nothing to decide on, or something comes behind.
    """
    found = [index for index, step in enumerate(steps) if controls(step.algorithm)]
    if not found:
        return steps, None
    step = steps[found[0]]
    if found != [len(steps) - 1] or len(steps) < 2:
        raise ValidationError(
            f"Algorithm {step.algorithm.name!r} decides which edits of the section before it are kept: put its section "
            'last, behind one that edits, such as "post_training_quantization".'
        )
    return steps[:-1], step


def _ignored_scope(config: NNCFConfig, section: Mapping[str, Any], name: str) -> IgnoredScope:
    if section.get("ignored_scope"):
        return structure(section["ignored_scope"], IgnoredScope, f"compression.{name}.ignored_scope")
    legacy = config.get_redefinable_global_param_value_for_algo("ignored_scopes", name)
    if not legacy:
        return IgnoredScope()
    return from_legacy(legacy, validate=section.get("validate_scopes", True))


def _target_scope(config: NNCFConfig, section: Mapping[str, Any], name: str) -> IgnoredScope | None:
    legacy = config.get_redefinable_global_param_value_for_algo("target_scopes", name)
    return from_legacy(legacy, validate=section.get("validate_scopes", True)) if legacy else None


def _statistics_path(config: NNCFConfig, section: Mapping[str, Any]) -> Path | None:
    advanced = section.get("advanced_parameters") or {}
    path = section.get("statistics_path") or advanced.get("statistics_path") or config.get("statistics_path")
    return None if path is None else Path(path)


def backend_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The backend's own options: those of the config and of all its sections."""
    options: dict[str, Any] = dict(config.get("backend_params", {}))
    for section in _sections(config):
        options.update(section.get("advanced_parameters", {}).get("backend_params", {}))
    if options:
        nncf_logger.debug("Backend options: %s", options)
    return options
