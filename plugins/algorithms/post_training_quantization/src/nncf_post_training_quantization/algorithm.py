"""Post-training quantization: weights and activations in 8 bits (NNCF's ``quantize``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from nncf_core.contracts import Context
from nncf_core.graph import Graph
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import Transformation
from nncf_post_training_quantization.parameters import SCHEMA, QuantizationSettings, resolve

# every run loads this module; only its own runs load nncf_post_training_quantization.quantization


class PostTrainingQuantization:
    """Quantizers where the runtime computes with integers, with ranges from calibration data."""

    name: ClassVar[str] = "post_training_quantization"
    parameters: ClassVar[type] = QuantizationSettings
    quantizes: ClassVar[bool] = True

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the config section."""
        return SCHEMA

    def rounds(self, graph: Graph, params: QuantizationSettings) -> int:
        """One round."""
        return 1

    def requests(
        self, graph: Graph, params: QuantizationSettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """Ends of ranges, and means of the inputs of layers whose bias is corrected."""
        from nncf_post_training_quantization import quantization

        return quantization.requests(graph, resolve(params), context)

    def transformations(
        self,
        graph: Graph,
        statistics: Statistics,
        params: QuantizationSettings,
        context: Context,
        round_index: int,
    ) -> Iterator[Transformation]:
        """Quantizers of activations, integers for weights, and new biases.

        :raises ValidationError: when a range is not finite.
        """
        from nncf_post_training_quantization import quantization

        return quantization.transformations(graph, statistics, resolve(params), context)
