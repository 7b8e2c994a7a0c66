"""What a run is given besides a model, and what its lock file tells of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from nncf_core.cli.data import dataset_of

if TYPE_CHECKING:
    from nncf_core.controlling import Validation
    from nncf_core.dataset import Dataset
    from nncf_core.locking import Data, Metric


@frozen
class UserMetric:
    """A validation function, and where it comes from.

    :param function: ``module:function``.
    :param source: of its dataset, as the user named it.
    :param options: of this dataset.
    """

    validation: Validation
    function: str
    source: str
    options: tuple[str, ...]

    @classmethod
    def of(
        cls, function: str, source: str, options: Sequence[str], model: Path, folder: Path | None = None
    ) -> UserMetric:
        """Import the function, and read its dataset.

        :param model: the model file that it is for.
        :param folder: where the function's module lies, besides the current folder.
        """
        from nncf_core.controlling import Validation
        from nncf_core.user_functions import user_object

        samples = dataset_of(source, options, model)
        assert samples is not None
        found = user_object(function, "--validation", folder)
        return cls(Validation(_staying(found) if callable(found) else found, samples), function, source, tuple(options))


def _staying(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that fails where the user's would end the process."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except SystemExit as leaving:
            raise RuntimeError(f"it would have ended the command with {leaving!r}") from leaving

    return call


@frozen
class Witnesses:
    """Data and a metric that remember what they gave.

    :param dataset: the data; ``None``: none were given.
    :param given: the metric, likewise.
    :param source: of the data, as the user named it.
    :param options: of the data.
    """

    dataset: Dataset[Any, Any] | None
    given: UserMetric | None
    source: str | None
    options: Sequence[str]

    @classmethod
    def of(cls, dataset: Dataset[Any, Any] | None, metric: UserMetric | None, options: Mapping[str, Any]) -> Witnesses:
        """Those of a run.

        :param options: of the command.
        :raises ParameterNotSupportedError: when the source of the metric's function cannot be told.
        """
        from nncf_core.errors import ParameterNotSupportedError
        from nncf_core.locking import Witness
        from nncf_core.user_functions import source_file

        seen = None if dataset is None else Witness(dataset)
        if metric is not None:
            if source_file(metric.validation.function, metric.function) is None:
                raise ParameterNotSupportedError(
                    f"The function {metric.function} has no source file, so that no lock file can hold it; define "
                    "it in a file, or give --no-lock."
                )
            watched = evolve(metric.validation, dataset=Witness(metric.validation.dataset))
            metric = evolve(metric, validation=watched)
        return cls(seen, metric, options["dataset"], options["dataset_options"])

    @property
    def validation(self) -> Validation | None:
        """The metric as a run takes it."""
        return None if self.given is None else self.given.validation

    def data(self, folder: Path) -> Data | None:
        """What a lock file in a folder tells of the data."""
        return None if self.dataset is None else _data(self.source, self.options, self.dataset, folder)

    def metric(self, folder: Path) -> Metric | None:
        """What a lock file in a folder tells of the metric."""
        from nncf_core.locking import Metric, digest_of_file, relative
        from nncf_core.user_functions import source_file

        if self.given is None:
            return None
        file = source_file(self.given.validation.function, self.given.function)
        assert file is not None
        data = _data(self.given.source, self.given.options, self.given.validation.dataset, folder)
        return Metric(self.given.function, relative(file, folder), digest_of_file(file), data)


def _data(source: str | None, options: Sequence[str], dataset: Dataset[Any, Any], folder: Path) -> Data:
    from nncf_core.locking import Witness, data_of, relative

    assert source is not None
    assert isinstance(dataset, Witness)
    pairs = dict(text.split("=", 1) for text in options)
    found = data_of(source, pairs, dataset)
    return evolve(found, source=relative(Path(found.source), folder)) if found.files else found
