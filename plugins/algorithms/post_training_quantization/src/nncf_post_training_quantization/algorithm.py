"""Post-training quantization (NNCF's ``quantize``): weights and activations in 8 bits, and what goes before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import Transformation
from nncf_post_training_quantization.parameters import (
    ALIGNMENT_SCHEMA,
    SCHEMA,
    AlignmentSettings,
    Correction,
    QuantizationSettings,
    correction_of,
    resolve,
)

# every run loads this module; only its own runs load nncf_post_training_quantization.quantization


class PostTrainingQuantization:
    """Quantizers where the runtime computes with integers, with ranges from calibration data."""

    name: ClassVar[str] = "post_training_quantization"
    parameters: ClassVar[type] = QuantizationSettings
    quantizes: ClassVar[bool] = True

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the config section."""
        return SCHEMA

    def alternatives(self, params: QuantizationSettings) -> Mapping[str, Sequence[QuantizationSettings]]:
        """Presets, range estimators of activations, and both ways to correct biases."""
        from nncf_post_training_quantization.alternatives import alternatives

        return alternatives(params)

    def rounds(self, graph: Graph, params: QuantizationSettings) -> int:
        """One; with accurate bias correction one before it, for means, and one behind it, for the correction."""
        return 3 if correction_of(params) is Correction.ACCURATE else 1

    def samples(self, params: QuantizationSettings, round_index: int) -> int:
        """Biases are corrected accurately with a fifth of the samples."""
        return params.subset_size if self._quantizes(params, round_index) else max(params.subset_size // 5, 1)

    def requests(
        self, graph: Graph, params: QuantizationSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """Ends of ranges, and means of the inputs or outputs of layers whose bias is corrected."""
        from nncf_post_training_quantization import correction, quantization

        settings = resolve(params)
        if self._quantizes(params, round_index):
            return quantization.requests(graph, settings, context)
        if round_index == 0:
            return correction.means(graph, quantization.layers(graph, settings, context), settings, context)
        return correction.requests(graph, settings, context)

    def transformations(
        self,
        graph: Graph,
        statistics: Statistics,
        params: QuantizationSettings,
        context: Context,
        round_index: int,
    ) -> Iterable[Transformation]:
        """Quantizers of activations, integers for weights, and new biases.

        :raises ValidationError: when a range is not finite.
        """
        from nncf_post_training_quantization import correction, quantization

        settings = resolve(params)
        if self._quantizes(params, round_index):
            return quantization.transformations(graph, statistics, settings, context)
        if round_index == 0:
            return ()
        return correction.transformations(graph, statistics, settings, context)

    def _quantizes(self, params: QuantizationSettings, round_index: int) -> bool:
        return round_index == int(correction_of(params) is Correction.ACCURATE)


class ChannelAlignment:
    """Shifts channels of tensors between layers to one centre."""

    name: ClassVar[str] = "channel_alignment"
    parameters: ClassVar[type] = AlignmentSettings

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the config section."""
        return ALIGNMENT_SCHEMA

    def rounds(self, graph: Graph, params: AlignmentSettings) -> int:
        """One round."""
        return 1

    def requests(
        self, graph: Graph, params: AlignmentSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """The range of each channel."""
        from nncf_post_training_quantization import alignment

        return alignment.requests(graph, context)

    def transformations(
        self, graph: Graph, statistics: Statistics, params: AlignmentSettings, context: Context, round_index: int
    ) -> Iterable[Transformation]:
        """New biases on both sides of each tensor."""
        from nncf_post_training_quantization import alignment

        return alignment.transformations(graph, statistics, context)
