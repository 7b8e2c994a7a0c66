"""The controller of quantizers while their model is trained."""

from __future__ import annotations

from nncf_core.training.contracts import QuantizerHandle, TrainedModel
from nncf_core.training.control import CompressionAlgorithmController, CompressionStage
from nncf_core.training.quantization_statistics import quantization_statistics
from nncf_core.training.statistics import NNCFStatistics
from nncf_quantization_aware_training.parameters import TrainingSettings
from nncf_quantization_aware_training.scheduler import StagedQuantizationScheduler


class QuantizationController(CompressionAlgorithmController):
    """Quantizers as the scheduler wants them; what is trained of them is in the model.

    :param name: of the algorithm.
    """

    def __init__(self, name: str, trained: TrainedModel, params: TrainingSettings) -> None:
        super().__init__(trained.model)
        self.name = name
        self._quantizers: tuple[QuantizerHandle, ...] = tuple(trained.quantizers())
        if params.compression_lr_multiplier is not None:
            for quantizer in self._quantizers:
                quantizer.scale_gradients(params.compression_lr_multiplier)
        self._scheduler = StagedQuantizationScheduler(params.params, self._enable)

    @property
    def scheduler(self) -> StagedQuantizationScheduler:
        """Counts epochs, and lets quantizers begin."""
        return self._scheduler

    def disable_scheduler(self) -> None:
        """All quantizers act from now on."""
        old, self._scheduler = self._scheduler, StagedQuantizationScheduler(None, self._enable)
        self._scheduler.current_step, self._scheduler.current_epoch = old.current_step, old.current_epoch

    def compression_stage(self) -> CompressionStage:
        """Fully compressed when quantizers of weights and activations act."""
        return self._scheduler.stage

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        """How many quantizers there are, of which kinds and bits, and how many of them act."""
        return NNCFStatistics(quantization=quantization_statistics(self._quantizers))

    def _enable(self, weights: bool, active: bool) -> None:
        for quantizer in self._quantizers:
            if quantizer.is_weight == weights:
                quantizer.enable(active)
