"""Figures of quantizers while their model is trained; names are those of ``nncf.common.quantization.statistics``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from nncf_core.training.contracts import QuantizerHandle
from nncf_core.training.statistics import Statistics, table


@frozen
class QuantizersCounter:
    """Quantizers of weights, or of activations, by their kinds.

    :param num_symmetric: without a zero point.
    :param num_asymmetric: with one.
    :param num_signed: to integers below zero, too.
    :param num_unsigned: to integers from zero.
    :param num_per_tensor: with one scale.
    :param num_per_channel: with several.
    """

    num_symmetric: int = 0
    num_asymmetric: int = 0
    num_signed: int = 0
    num_unsigned: int = 0
    num_per_tensor: int = 0
    num_per_channel: int = 0

    @property
    def total_count(self) -> int:
        """All of them."""
        return self.num_per_tensor + self.num_per_channel


@frozen
class QuantizationStatistics(Statistics):
    """Quantizers of a model.

    :param wq_counter: of weights.
    :param aq_counter: of activations.
    :param num_wq_per_bitwidth: quantizers of weights by their bits, most first.
    :param num_aq_per_bitwidth: those of activations.
    :param ratio_of_enabled_quantizations: percent of the quantizers that act.
    """

    wq_counter: QuantizersCounter
    aq_counter: QuantizersCounter
    num_wq_per_bitwidth: Mapping[int, int]
    num_aq_per_bitwidth: Mapping[int, int]
    ratio_of_enabled_quantizations: float

    def to_str(self) -> str:
        """Two tables."""
        counters = (self.wq_counter, self.aq_counter)
        kinds = ("symmetric", "asymmetric", "signed", "unsigned", "per_tensor", "per_channel")
        rows = [(kind.replace("_", " "), *(getattr(counter, f"num_{kind}") for counter in counters)) for kind in kinds]
        rows.append(("all", *(counter.total_count for counter in counters)))
        bits = sorted({*self.num_wq_per_bitwidth, *self.num_aq_per_bitwidth}, reverse=True)
        by_bits = [(n, self.num_wq_per_bitwidth.get(n, 0), self.num_aq_per_bitwidth.get(n, 0)) for n in bits]
        enabled = [("Percent of the quantizers that act", float(self.ratio_of_enabled_quantizations))]
        return "\n\n".join(
            [
                table("Statistics of the quantized model:", enabled, ("Statistic", "Value")),
                table("Quantizers by kind:", rows, ("Kind", "Weights", "Activations")),
                table("Quantizers by bits:", by_bits, ("Bits", "Weights", "Activations")),
            ]
        )


def quantization_statistics(quantizers: Iterable[QuantizerHandle]) -> QuantizationStatistics:
    """The figures of a model's quantizers."""
    listed = list(quantizers)
    groups = [[handle for handle in listed if handle.is_weight is weights] for weights in (True, False)]
    weights, activations = (_counted(group) for group in groups)
    by_bits = [Counter(handle.quantizer().bits for handle in group) for group in groups]
    active = sum(handle.is_active for handle in listed)
    return QuantizationStatistics(
        weights,
        activations,
        dict(sorted(by_bits[0].items(), reverse=True)),
        dict(sorted(by_bits[1].items(), reverse=True)),
        100 * active / len(listed) if listed else 0.0,
    )


def _counted(handles: Sequence[QuantizerHandle]) -> QuantizersCounter:
    found = [handle.quantizer() for handle in handles]
    asymmetric = sum(not handle.is_symmetric for handle in handles)
    signed, several = sum(q.lo < 0 for q in found), sum(q.axis is not None for q in found)
    count = len(found)
    return QuantizersCounter(count - asymmetric, asymmetric, signed, count - signed, count - several, several)
