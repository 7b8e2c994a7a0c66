"""Names of nodes: ``<path of the module>/<operator>/<how many of them the module has run before>``."""

from __future__ import annotations


def node_name(path: str, op_type: str, counts: dict[str, int]) -> str:
    """The next name of an operator in a module; ``counts`` is kept for one model.

    :param path: of the module, with dots; empty for the model itself.
    """
    stem = f"{path.replace('.', '/')}/{op_type}" if path else op_type
    number = counts.get(stem, 0)
    counts[stem] = number + 1
    return f"{stem}/{number}"
