"""Training loops that know how much accuracy may be lost.

Names and arguments are those of NNCF's ``nncf.common.accuracy_aware_training``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve, field, frozen

from nncf_core.errors import ValidationError
from nncf_core.log import nncf_logger
from nncf_core.structuring import structure
from nncf_core.training.accuracy_limits import (
    AccuracyBudget,
    AdaptiveParameters,
    EarlyExitParameters,
    TrainingLoopStatistics,
)
from nncf_core.training.control import CompressionAlgorithmController, CompressionStage


@frozen
class _Script:
    """The functions of a training script."""

    train_epoch_fn: Callable[..., Any]
    validate_fn: Callable[..., float]
    optimizer: Any = None
    lr_scheduler: Any = None
    dump_checkpoint_fn: Callable[..., Any] | None = None
    load_checkpoint_fn: Callable[..., Any] | None = None
    early_stopping_fn: Callable[[float], bool] | None = None
    update_learning_rate_fn: Callable[..., Any] | None = None
    writer: Any = None
    log_dir: Any = None


@frozen
class _Tried:
    """A model that was validated."""

    rate: float
    accuracy: float
    budget: float
    checkpoint: Any = field(repr=False)


class TrainingLoop:
    """Trains a compressed model epoch by epoch, and chooses one of the models on the way.

    :param nncf_config: with the section ``accuracy_aware_training``.
    :param compression_controller: of the model.
    :param uncompressed_model_accuracy: what losses of accuracy are measured from.
    :param lr_updates_needed: whether the loop steps the learning rate's scheduler after each epoch.
    :param verbose: whether it logs each epoch.
    :param dump_checkpoints: whether ``dump_checkpoint_fn`` is called for the best models.
    """

    mode = ""
    parameters: type[AccuracyBudget] = AccuracyBudget

    def __init__(
        self,
        nncf_config: Mapping[str, Any],
        compression_controller: CompressionAlgorithmController,
        uncompressed_model_accuracy: float,
        lr_updates_needed: bool = True,
        verbose: bool = True,
        dump_checkpoints: bool = True,
    ) -> None:
        section = nncf_config.get("accuracy_aware_training") or {}
        if section.get("mode") != self.mode:
            raise ValidationError(
                f'The config has no section "accuracy_aware_training" of the mode {self.mode!r}; it says '
                f"{section.get('mode')!r}. Add it, or take the loop of that mode."
            )
        self._params: Any = structure(section["params"], self.parameters, "accuracy_aware_training.params")
        self._controller = compression_controller
        self._before = uncompressed_model_accuracy
        self._lr_updates, self._verbose, self._dump = lr_updates_needed, verbose, dump_checkpoints
        self._epoch = 0
        self._tried: list[_Tried] = []
        self._chosen: _Tried | None = None

    def run(
        self,
        model: Any,
        train_epoch_fn: Callable[..., Any],
        validate_fn: Callable[..., float],
        configure_optimizers_fn: Callable[[], tuple[Any, Any]] | None = None,
        dump_checkpoint_fn: Callable[..., Any] | None = None,
        load_checkpoint_fn: Callable[..., Any] | None = None,
        early_stopping_fn: Callable[[float], bool] | None = None,
        tensorboard_writer: Any = None,
        log_dir: Any = None,
        update_learning_rate_fn: Callable[..., Any] | None = None,
    ) -> Any:
        """Train; the model has the chosen tensors in the end, and is returned.

        :param model: what ``create_compressed_model`` gave, or a wrapper of it.
        :param train_epoch_fn: ``(controller, model, epoch=…, optimizer=…, lr_scheduler=…)``; trains an epoch, tells the
            controller's scheduler, and adds the controller's loss.
        :param validate_fn: ``(model, epoch=…)``; gives the accuracy, more is better.
        :param configure_optimizers_fn: gives optimizer and scheduler of the learning rate, or ``None``.
        :param dump_checkpoint_fn: ``(model, controller, loop, log_dir)``; writes a model that is the best so far.
        :param load_checkpoint_fn: ``(model, what dump_checkpoint_fn gave)``; in place of the copy in memory.
        :param early_stopping_fn: of an accuracy: whether to stop.
        :param tensorboard_writer: gets accuracies by ``add_scalar``.
        :param log_dir: for ``dump_checkpoint_fn``.
        :param update_learning_rate_fn: ``(lr_scheduler, epoch, accuracy, loss)``; in place of ``lr_scheduler.step()``.
        """
        optimizer, lr_scheduler = configure_optimizers_fn() if configure_optimizers_fn is not None else (None, None)
        script = _Script(
            train_epoch_fn,
            validate_fn,
            optimizer,
            lr_scheduler,
            dump_checkpoint_fn,
            load_checkpoint_fn,
            early_stopping_fn,
            update_learning_rate_fn,
            tensorboard_writer,
            log_dir,
        )
        self._train(model, script)
        self._choose(model, script)
        return model

    @property
    def statistics(self) -> TrainingLoopStatistics:
        """What the loop came to.

        :raises ValidationError: before :meth:`run`.
        """
        chosen = self._chosen
        if chosen is None:
            raise ValidationError("The loop has not run, so that there are no statistics: call run() first.")
        lost = self._before - chosen.accuracy
        relative = 100 * lost / self._before if self._before else 0.0
        return TrainingLoopStatistics(self._before, chosen.rate, chosen.accuracy, lost, relative, chosen.budget)

    def _train(self, model: Any, script: _Script) -> None:
        raise NotImplementedError

    def _best(self) -> _Tried:
        """The model to choose of those that were tried."""
        return max(self._tried, key=lambda tried: tried.accuracy)

    def _epoch_passes(self, model: Any, script: _Script) -> float:
        """Train an epoch and validate; the accuracy."""
        loss = script.train_epoch_fn(
            self._controller, model, epoch=self._epoch, optimizer=script.optimizer, lr_scheduler=script.lr_scheduler
        )
        accuracy = float(script.validate_fn(model, epoch=self._epoch))
        if script.update_learning_rate_fn is not None:
            script.update_learning_rate_fn(script.lr_scheduler, self._epoch, accuracy, loss)
        elif script.lr_scheduler is not None and self._lr_updates:
            script.lr_scheduler.step()
        if script.writer is not None:
            script.writer.add_scalar("val/accuracy", accuracy, self._epoch)
            script.writer.add_scalar("compression/rate", self._controller.compression_rate, self._epoch)
        if self._verbose:
            nncf_logger.info(
                "Epoch %d: accuracy %.4f, %.4f before, compression rate %.3f.",
                self._epoch,
                accuracy,
                self._before,
                self._controller.compression_rate,
            )
        self._epoch += 1
        return accuracy

    def _try(self, model: Any, script: _Script, accuracy: float) -> _Tried:
        """Remember a model that was validated; the tensors of the best alone are kept."""
        tried = _Tried(self._controller.compression_rate, accuracy, self._params.left(self._before, accuracy), None)
        earlier = self._best() if self._tried else None
        self._tried.append(tried)
        if self._best() is tried:
            if earlier is not None:
                self._tried = [evolve(old, checkpoint=None) for old in self._tried]
            self._tried[-1] = evolve(tried, checkpoint=self._checkpoint(model, script))
        return self._tried[-1]

    def _checkpoint(self, model: Any, script: _Script) -> Any:
        if script.dump_checkpoint_fn is not None and script.load_checkpoint_fn is not None and self._dump:
            return script.dump_checkpoint_fn(model, self._controller, self, script.log_dir)
        if script.dump_checkpoint_fn is not None and self._dump:
            script.dump_checkpoint_fn(model, self._controller, self, script.log_dir)
        return self._controller.trained_model.tensors(), self._controller.states()

    def _choose(self, model: Any, script: _Script) -> None:
        """Give the model the tensors of the best."""
        chosen = self._best()
        if script.load_checkpoint_fn is not None and script.dump_checkpoint_fn is not None and self._dump:
            script.load_checkpoint_fn(model, chosen.checkpoint)
        else:
            tensors, states = chosen.checkpoint
            self._controller.trained_model.load_tensors(tensors)
            self._controller.load_states(states)
        self._chosen = chosen
        if chosen.budget < 0:
            nncf_logger.warning(
                "No model lost as little accuracy as allowed; the best lost %.4f.", self._before - chosen.accuracy
            )


class EarlyExitCompressionTrainingLoop(TrainingLoop):
    """Stops as soon as a fully compressed model has lost no more accuracy than allowed."""

    mode = "early_exit"
    parameters = EarlyExitParameters

    def _train(self, model: Any, script: _Script) -> None:
        if self._controller.compression_stage() == CompressionStage.FULLY_COMPRESSED:
            accuracy = float(script.validate_fn(model, epoch=0))
            if self._try(model, script, accuracy).budget >= 0:
                return
        accuracy = 0.0
        while self._epoch < self._params.maximal_total_epochs:
            accuracy = self._epoch_passes(model, script)
            if self._controller.compression_stage() != CompressionStage.FULLY_COMPRESSED:
                continue
            budget = self._try(model, script, accuracy).budget
            if budget >= 0 or (script.early_stopping_fn is not None and script.early_stopping_fn(accuracy)):
                return
        if not self._tried:
            nncf_logger.warning("The compression did not end in %d epochs: let its schedule end earlier.", self._epoch)
            self._try(model, script, accuracy)


class AdaptiveCompressionTrainingLoop(TrainingLoop):
    """Looks for the largest compression rate with which no more accuracy is lost than allowed.

    After a phase with the config's schedule the rate is raised while accuracy is within the limit, and lowered while it
    is not; the step becomes smaller whenever the direction changes.

    :param minimal_compression_rate: the rate never goes below.
    :param maximal_compression_rate: nor above.
    :raises ValidationError: for an algorithm without a rate that can be set.
    """

    mode = "adaptive_compression_level"
    parameters = AdaptiveParameters

    def __init__(
        self,
        nncf_config: Mapping[str, Any],
        compression_controller: CompressionAlgorithmController,
        uncompressed_model_accuracy: float,
        lr_updates_needed: bool = True,
        verbose: bool = True,
        minimal_compression_rate: float = 0.0,
        maximal_compression_rate: float = 0.95,
        dump_checkpoints: bool = True,
    ) -> None:
        super().__init__(
            nncf_config,
            compression_controller,
            uncompressed_model_accuracy,
            lr_updates_needed,
            verbose,
            dump_checkpoints,
        )
        if not compression_controller.has_rate:
            raise ValidationError(
                "adaptive_compression_level looks for a compression rate, and the algorithms of the config have none: "
                "add one, such as 'magnitude_sparsity' or 'filter_pruning', or choose the mode 'early_exit'."
            )
        self._limits = (
            minimal_compression_rate,
            min(maximal_compression_rate, compression_controller.maximal_compression_rate),
        )

    def _best(self) -> _Tried:
        """The largest rate within the limit of accuracy; where there is none, the best accuracy."""
        within = [tried for tried in self._tried if tried.budget >= 0]
        if within:
            return max(within, key=lambda tried: (round(tried.rate, 4), tried.accuracy))
        return max(self._tried, key=lambda tried: tried.accuracy)

    def _train(self, model: Any, script: _Script) -> None:
        params, accuracy = self._params, 0.0
        first = min(params.initial_training_phase_epochs, params.maximal_total_epochs)
        while self._epoch < first:
            accuracy = self._epoch_passes(model, script)
        if not self._epoch:
            accuracy = float(script.validate_fn(model, epoch=0))
        self._try(model, script, accuracy)
        self._controller.disable_scheduler()
        rate, step, upwards = self._controller.compression_rate, params.initial_compression_rate_step, None
        while self._epoch < params.maximal_total_epochs:
            raised = self._tried[-1].budget >= 0
            if upwards is not None and raised != upwards:
                step *= params.compression_rate_step_reduction_factor
                _scale_rate(script.optimizer, params.lr_reduction_factor)
            upwards = raised
            wanted = min(max(rate + (step if raised else -step), self._limits[0]), self._limits[1])
            if step < params.minimal_compression_rate_step or wanted == rate:
                return
            rate = wanted
            self._controller.compression_rate = rate
            self._tried_for_epochs(model, script)
            if script.early_stopping_fn is not None and script.early_stopping_fn(self._tried[-1].accuracy):
                return

    def _tried_for_epochs(self, model: Any, script: _Script) -> None:
        """Train at a rate until accuracy is within the limit, for some epochs at most."""
        for _ in range(max(int(self._params.patience_epochs), 1)):
            if self._epoch >= self._params.maximal_total_epochs:
                return
            if self._try(model, script, self._epoch_passes(model, script)).budget >= 0:
                return


def _scale_rate(optimizer: Any, factor: float) -> None:
    for group in getattr(optimizer, "param_groups", ()):
        group["lr"] *= factor


_LOOPS: Mapping[str, type[TrainingLoop]] = {
    loop.mode: loop for loop in (EarlyExitCompressionTrainingLoop, AdaptiveCompressionTrainingLoop)
}


def create_accuracy_aware_training_loop(
    nncf_config: Mapping[str, Any],
    compression_ctrl: CompressionAlgorithmController,
    uncompressed_model_accuracy: float,
    **additional_runner_args: Any,
) -> TrainingLoop:
    """The loop that the config's section ``accuracy_aware_training`` asks for.

    :raises ValidationError: when there is no such section.
    """
    mode = str((nncf_config.get("accuracy_aware_training") or {}).get("mode"))
    if mode not in _LOOPS:
        raise ValidationError(f'The config has no section "accuracy_aware_training"; modes are {", ".join(_LOOPS)}.')
    return _LOOPS[mode](nncf_config, compression_ctrl, uncompressed_model_accuracy, **additional_runner_args)
