"""Constants that stay in floating point, and are rounded to codes when they are read, so as to be trained."""

from __future__ import annotations

from unittest import SkipTest

from attrs import evolve

from nncf_core.contracts import TrainingInserter
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import decompress
from nncf_core.strip_formats import InPlace, StoreLowBit
from nncf_core.testing.backends.base import BackendSuite, compressed, group_sizes, layout_of, request_for
from nncf_core.testing.cases import ModelCase
from nncf_core.testing.suite import expect
from nncf_core.transformations import CompressConstant, Training


class TrainingTests(BackendSuite):
    """``CompressConstant`` with ``training``, where the backend is a ``TrainingInserter``."""

    def test_training_begins_at_the_compressed_model(self, case: ModelCase) -> None:
        """Outputs are those of the decompressed weights, also after ``strip`` to ``DQ`` and ``IN_PLACE``.

        With adapters of rank 1, which at first add nothing, as far as the backend does not refuse them.
        """
        inserter = self.backend.inserter
        if not isinstance(inserter, TrainingInserter):
            raise SkipTest(f"the {self.framework} backend does not train")
        graph = self.backend.builder.build(self.opened(case))
        tried = False
        for scheme in SCHEMES.values():
            edits = {}
            for name, array in case.weights.items():
                layout, constant = layout_of(graph, name), graph.constants[name]
                for size in group_sizes(scheme, layout, array.shape):
                    request = evolve(request_for(scheme, layout, size), training=Training(1))
                    if (
                        inserter.refusal(graph, constant, request, self.options) is None
                        and inserter.training_refusal(graph, constant, request, self.options) is None
                    ):
                        tensor = compressed(array, scheme, layout, size)
                        edits[name] = CompressConstant(name, tensor, training=request.training)
            if edits:
                tried = True
                self._check_trained(case, edits, f"after CompressConstant to {scheme.name} with training")
        if not tried:
            raise SkipTest("the backend refuses to train the weights of this model")

    def _check_trained(self, case: ModelCase, edits: dict[str, CompressConstant], what: str) -> None:
        wanted = self.expected(case, {name: decompress(edit.tensor) for name, edit in edits.items()})
        model = self.apply(self.opened(case), tuple(edits.values()))
        self.same_outputs(self.outputs(model, case), wanted, what)
        found = self.backend.builder.build(model).constants
        wrong = [name for name in edits if name not in found or not found[name].stored_as_float]
        expect(not wrong, f"{what}, these constants are not recognised (Constant.stored_as_float): {wrong}")
        for form in (StoreLowBit(), InPlace()):
            model = self.apply(model, tuple(form.strip(self.backend.builder.build(model))))
            self.same_outputs(self.outputs(model, case), wanted, f"{what} and strip {form.name}")
            left = self.backend.builder.build(model).constants
            wrong = [
                name
                for name in edits
                if left[name].stored_as_float or left[name].is_float is not isinstance(form, InPlace)
            ]
            expect(not wrong, f"{what} and strip {form.name}, these weights have another form: {wrong}")
