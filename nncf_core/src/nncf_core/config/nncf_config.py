"""The config object: a dict with extra structures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from nncf_core.config.structures import ExtraStruct
from nncf_core.errors import InternalError, InvalidPathError, ValidationError
from nncf_core.log import nncf_logger

TStruct = TypeVar("TStruct", bound=ExtraStruct)


class NNCFConfig(dict[str, Any]):
    """What a run is assembled from: a dict, validated against a JSON schema when it is read.

    The schema is put together from what the installed algorithms bring. Filling the dict directly validates
    nothing; the pipeline validates once more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._extra_structs: dict[str, Any] = {}

    @classmethod
    def from_dict(cls, nncf_dict: Mapping[str, Any]) -> NNCFConfig:
        """A config from a dict of JSON data, which is copied.

        :raises ValidationError: naming the key path, the value, and what is allowed.
        """
        cls.validate(nncf_dict)
        config = cls(deepcopy(dict(nncf_dict)))
        if isinstance(nncf_dict, NNCFConfig):
            config._extra_structs = dict(nncf_dict._extra_structs)
        return config

    @classmethod
    def from_json(cls, path: str | Path) -> NNCFConfig:
        """A config from a JSON file.

        :raises InvalidPathError: when the file cannot be read.
        :raises ValidationError: when it is not JSON, or not a valid config.
        """
        return cls.from_dict(read_json(path))

    def register_extra_structs(self, struct_list: list[Any]) -> None:
        """Attach structures that cannot be written as JSON.

        :raises InternalError: when one with the same id is attached already.
        """
        for struct in struct_list:
            name = _id(struct)
            if name in self._extra_structs:
                raise InternalError(f"{name} is already registered as extra struct in this config.")
            self._extra_structs[name] = struct

    def get_extra_struct(self, struct_cls: type[TStruct]) -> TStruct:
        """The attached structure of this class.

        :raises KeyError: when there is none.
        :raises ValidationError: when it is no class of extra structures.
        """
        return self._extra_structs[_id(struct_cls)]  # type: ignore[no-any-return]

    def has_extra_struct(self, struct_cls: type[ExtraStruct]) -> bool:
        """Whether a structure of this class is attached."""
        return _id(struct_cls) in self._extra_structs

    def get_all_extra_structs(self) -> list[Any]:
        """All attached structures."""
        return list(self._extra_structs.values())

    def get_redefinable_global_param_value_for_algo(self, param_name: str, algo_name: str) -> Any:
        """A parameter that an algorithm's section may redefine: its value there, else the global one.

        :return: ``None`` when neither is given.
        :raises InternalError: when the config has no section for the algorithm.
        :raises ValidationError: when it has more than one, or when ``"NoCompressionAlgorithm"`` is asked for
            although there are algorithms.
        """
        compression = self.get("compression", [])
        sections = [compression] if isinstance(compression, Mapping) else list(compression)
        if algo_name == "NoCompressionAlgorithm":
            if sections:
                raise ValidationError("The config has compression algorithms; it cannot be asked for none.")
            return self.get(param_name)
        found = [section for section in sections if section.get("algorithm") == algo_name]
        if not found:
            raise InternalError(f"The config has no section for the algorithm {algo_name!r}.")
        if len(found) > 1:
            raise ValidationError(f"The config has more than one section for the algorithm {algo_name!r}.")
        value = found[0].get(param_name)
        return self.get(param_name) if value is None else value

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON schema (draft-07) of configs, with the sections of all installed algorithms."""
        from nncf_core.config.schema import assemble, installed_fragments

        return assemble(installed_fragments())

    @staticmethod
    def validate(loaded_json: Mapping[str, Any]) -> None:
        """Check a dict against the schema.

        :raises ValidationError: naming the key path, the value, and what is allowed.
        """
        from nncf_core.config.schema import installed_fragments
        from nncf_core.config.validation import validate
        from nncf_core.registry import registry

        parameters = {name: algorithm.parameters for name, algorithm in registry().algorithms.items()}
        try:
            validate(loaded_json, installed_fragments(), parameters)
        except ValidationError:
            nncf_logger.debug("Invalid NNCF config: %s", loaded_json)
            raise


def read_json(path: str | Path, what: str = "config") -> dict[str, Any]:
    """The object in a JSON file.

    :param what: what it should be.
    :raises InvalidPathError: when the file cannot be read.
    :raises ValidationError: when it is not JSON, or no object.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPathError(f"Cannot read the {what} {path}: {_reason(error)}.") from None
    try:
        data = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise ValidationError(
            f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except ValueError as error:
        raise ValidationError(f"{path}: {error}") from None
    except RecursionError:
        raise ValidationError(f"{path} is nested too deeply for a {what}.") from None
    if not isinstance(data, dict):
        raise ValidationError(f"{path} holds a {type(data).__name__}; a {what} is an object {{...}}.")
    return data


def _reason(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return error.strerror or str(error)


def _id(struct: Any) -> str:
    if not hasattr(struct, "get_id"):
        raise ValidationError(
            f"{struct!r} is no extra structure: it has no get_id(); derive its class from ExtraStruct."
        )
    return str(struct.get_id())


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} is given twice in one object.")
        result[key] = value
    return result


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text} is too large.")
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value.")
