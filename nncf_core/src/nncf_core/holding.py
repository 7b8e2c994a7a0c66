"""Whether a written model holds what the edits of its run demanded, and everything else as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from attrs import define

from nncf_core.demands import Codes, Demands, Numbers, users_of
from nncf_core.errors import NNCFError
from nncf_core.graph import FLOAT_DTYPES, Constant, Graph


@define
class Holding:
    """What a written model holds of what was demanded.

    :param fault: what is wrong; ``None``: nothing.
    :param compressed: constants that hold the codes, scales and zero points that they should.
    :param changed: constants that hold the numbers that they should.
    :param kept: constants that are those of the original.
    :param renamed: names that the written model does not have.
    :param unseen: of numbers that edits brought, those that the backend's graph does not show.
    """

    fault: str | None = None
    compressed: int = 0
    changed: int = 0
    kept: int = 0
    renamed: int = 0
    unseen: int = 0

    def __str__(self) -> str:
        """In a sentence, for people."""
        parts = [
            (self.compressed, "hold their codes, scales and zero points"),
            (self.changed, "hold their new numbers"),
            (self.kept, "are those of the original"),
            (self.renamed, "have other names now and were not compared"),
            (self.unseen, "that edits brought are not shown and were not compared"),
        ]
        found = [f"{count} {text}" for count, text in parts if count]
        return "bit for bit: " + (", ".join(found).replace(" ", " constants ", 1) or "there are no constants")


def held(demands: Demands, graph: Graph, original: Graph | None) -> Holding:
    """Compare a written model with what was demanded, up to the first fault.

    :param graph: of the written model.
    :param original: of the model before the first edit; ``None``: it cannot be looked at.
    """
    found = Holding()
    before = {} if original is None else _named(demands, original)
    for name, demand in demands.constants.items():
        constant = graph.constants.get(name)
        if constant is None:
            found.renamed += 1
            continue
        fault = _fault(demand, constant)
        if fault is not None:
            found.fault = f"the constant {name!r} {fault}"
            return found
        if isinstance(demand, Codes):
            found.compressed += 1
        else:
            found.changed += 1
    _look_for_inserted(demands, graph, before, found)
    if found.fault is None:
        _compare_kept(demands, graph, before, found)
    return found


def _named(demands: Demands, original: Graph) -> dict[str, Constant]:
    """The constants of a model by the names that they had in the run."""
    names = {constant: demands.users[place] for place, constant in users_of(original).items() if place in demands.users}
    return {names.get(name, name): constant for name, constant in original.constants.items()}


def _fault(demand: Codes | Numbers, constant: Constant) -> str | None:
    if isinstance(demand, Codes):
        if constant.compressed is None:
            return f"was compressed, but is stored as {constant.dtype}"
        fault = demand.fault(constant.compressed())
        text = "was written with {}, not as it was compressed"
    else:
        fault = demand.fault(constant.read())
        text = "was written with {}, not with those that it was given"
    constant.release()
    return None if fault is None else text.format(fault)


def _look_for_inserted(demands: Demands, graph: Graph, original: Mapping[str, Constant], found: Holding) -> None:
    """Whether numbers that edits brought are in constants that the original does not have."""
    known = demands.constants.keys() | original.keys()
    new = {name: constant for name, constant in graph.constants.items() if name not in known}
    if not new:
        # not every backend's graph shows constants that edits brought; what they do shows in what the model gives
        found.unseen = len(demands.inserted)
        return
    for each in demands.inserted:
        place = next((name for name, constant in new.items() if each.is_in(constant)), None)
        if place is None:
            found.fault = f"{each.what} was written with other numbers, or not at all"
            return
        found.changed += 1


def _compare_kept(demands: Demands, graph: Graph, original: Mapping[str, Constant], found: Holding) -> None:
    """Whether constants that no edit names are as they were."""
    for name, before in original.items():
        if name in demands.constants or name in demands.open:
            continue
        if demands.resized and before.dtype not in FLOAT_DTYPES:
            continue
        after = graph.constants.get(name)
        if after is None:
            found.renamed += 1
            continue
        fault = _difference(before, after, demands.shrunk.get(name, ()))
        if fault is not None:
            found.fault = f"the constant {name!r} was to stay as it was, but was written with {fault}"
            return
        found.kept += 1


def _difference(before: Constant, after: Constant, shrunk: Sequence[tuple[int, tuple[int, ...]]]) -> str | None:
    """In what a constant differs from the original's."""
    try:
        if before.compressed is not None and after.compressed is not None:
            return Codes.of(before.compressed()).fault(after.compressed())
        old, new = before.read(), after.read()
        for axis, kept in shrunk:
            old = np.take(old, kept, axis)
        if old.dtype != new.dtype or old.shape != new.shape:
            return f"{new.dtype.name} {new.shape} in place of {old.dtype.name} {old.shape}"
        same = np.array_equal(old, new) if old.dtype.kind in "OU" else _same_bytes(old, new)
        return None if same else "other numbers"
    except NNCFError as error:
        return f"what cannot be read: {error}"
    finally:
        before.release()
        after.release()


def _same_bytes(old: np.ndarray, new: np.ndarray) -> bool:
    a, b = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (old, new))
    return bool(np.array_equal(a, b))
