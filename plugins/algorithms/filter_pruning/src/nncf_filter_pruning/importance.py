"""How important filters are, and with them the channels that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nncf_filter_pruning.channels import FREE
from nncf_filter_pruning.coupling import Coupling


def l1(filters: np.ndarray) -> np.ndarray:
    """Sum of magnitudes (Li et al. 2017, https://arxiv.org/abs/1608.08710).

    :param filters: one in each row.
    """
    result: np.ndarray = np.abs(filters).sum(axis=1)
    return result


def l2(filters: np.ndarray) -> np.ndarray:
    """Square root of the sum of squares."""
    result: np.ndarray = np.sqrt(np.square(filters).sum(axis=1))
    return result


def geometric_median(filters: np.ndarray) -> np.ndarray:
    """Sum of the distances to all other filters: those near the geometric median can be replaced by the others.

    He et al. 2019, https://arxiv.org/abs/1811.00250, equation 6.
    """
    squares = np.square(filters).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * (filters @ filters.T)
    np.fill_diagonal(distances, 0)
    result: np.ndarray = np.sqrt(np.maximum(distances, 0)).sum(axis=1)
    return result


IMPORTANCES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "L1": l1,
    "L2": l2,
    "geometric_median": geometric_median,
}


def filters_of(weight: np.ndarray, axis: int) -> np.ndarray:
    """The filters of a weight, one in each row, in double precision."""
    moved = np.moveaxis(weight.astype(np.float64), axis, 0)
    return moved.reshape(moved.shape[0], -1)


def of_layers(
    coupling: Coupling, read: Callable[[str], np.ndarray], measure: str, normalized: bool
) -> dict[str, np.ndarray]:
    """The importance of each filter of each layer that may lose some, by the layer's name.

    :param read: gives the values of a weight.
    :param measure: key of :data:`IMPORTANCES`.
    :param normalized: whether importances are divided by their mean in the layer, so that layers can be compared
        (Fang et al. 2023, https://arxiv.org/abs/2301.12900). Norms of whole weights, by which NNCF divides, make each
        filter of a wide layer less important than one of a narrow layer, until next to nothing is left of the former.
    """
    found: dict[str, np.ndarray] = {}
    for layer in coupling.layers:
        if not layer.own or not layer.output.any():
            continue
        filters = filters_of(read(layer.weight), layer.axis)
        values = IMPORTANCES[measure](filters)
        mean = values.mean()
        found[layer.node.name] = values / mean if normalized and mean > 0 else values
    return found


def of_channels(
    coupling: Coupling, layers: Mapping[str, np.ndarray], coefficients: Mapping[str, tuple[float, float]] | None = None
) -> np.ndarray:
    """The importance of each channel: the mean of those of all filters that give it, by its number.

    :param layers: from :func:`of_layers`.
    :param coefficients: factor and summand for the filters of each layer (Chin et al. 2020,
        https://arxiv.org/abs/1904.12368, section 4), by name.
    """
    total, counts = np.zeros(coupling.size), np.zeros(coupling.size)
    for layer in coupling.layers:
        if layer.node.name not in layers:
            continue
        values = layers[layer.node.name]
        if coefficients is not None:
            factor, summand = coefficients[layer.node.name]
            values = values * factor + summand
        channels = coupling.claims[layer.weight, layer.axis]
        np.add.at(total, channels, values)
        np.add.at(counts, channels, 1)
    total[FREE] = 0
    return total / np.maximum(counts, 1)
