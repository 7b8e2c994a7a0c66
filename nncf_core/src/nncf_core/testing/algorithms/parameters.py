"""Name, parameters and schema of an algorithm."""

from __future__ import annotations

import json

import attrs

from nncf_core.config.schema import SCOPING, section_schema
from nncf_core.errors import ValidationError
from nncf_core.structuring import structure, unstructure
from nncf_core.testing.algorithms.base import AlgorithmSuite, SectionArgument
from nncf_core.testing.imports import frameworks_imported_by
from nncf_core.testing.suite import expect

_RUN = """
from nncf_core.testing.suite import registry_with
from nncf_core.testing.algorithms.base import AlgorithmSuite
suite = type("It", (AlgorithmSuite,), {{"algorithm": {algorithm!r}, "plugin": {plugin}}})()
for case in suite.cases():
    suite.run(case.model(), {section!r}, case.feeds)
"""


class ParameterTests(AlgorithmSuite):
    """What can be said about an algorithm in a config."""

    def test_name(self) -> None:
        """The name is what a config can say."""
        name = self.subject.name
        expect(
            name == self.algorithm and name.isidentifier() and name == name.lower(),
            f"Algorithm.name must be lower_case_with_underscores; it is {name!r}",
        )

    def test_schema_is_valid(self) -> None:
        """The fragment is a draft-07 schema of an object, with a description for each property that is not plain."""
        import jsonschema

        schema = json.loads(json.dumps(self.subject.schema()))
        try:
            jsonschema.Draft7Validator.check_schema(section_schema(self.algorithm, schema))
        except jsonschema.SchemaError as error:
            expect(False, f"Algorithm.schema() is not a draft-07 JSON schema: {error.message} at {list(error.path)}")
        expect(schema.get("type") == "object", 'Algorithm.schema() must have "type": "object"')
        taken = {"algorithm", *SCOPING} & set(schema.get("properties", {}))
        expect(not taken, f"the core adds {', '.join(sorted(taken))} to every section; leave them out of schema()")

    def test_schema_and_parameters_agree(self) -> None:
        """The schema's properties are the fields of the class of parameters."""
        cls = self.subject.parameters
        expect(attrs.has(cls), f"Algorithm.parameters must be an attrs class; it is {cls!r}")
        fields = {field.name for field in attrs.fields(cls)}
        properties = set(self.subject.schema().get("properties", {}))
        expect(
            properties == fields,
            f"only in schema(): {sorted(properties - fields)}; only in {cls.__name__}: {sorted(fields - properties)}",
        )

    def test_defaults_can_be_structured(self) -> None:
        """The schema's defaults are valid, and the class accepts them."""
        properties = self.subject.schema().get("properties", {})
        defaults = {name: part["default"] for name, part in properties.items() if "default" in part}
        self._validate(defaults, "the schema's defaults")
        self.parameters_of(defaults)

    def test_parameters_can_be_omitted(self) -> None:
        """Everything that the schema does not require has a default in the class."""
        required = set(self.subject.schema().get("required", ()))
        missing = [f.name for f in attrs.fields(self.subject.parameters) if f.default is attrs.NOTHING]
        expect(
            set(missing) <= required,
            f"{', '.join(missing)} have no default; give one, or list them under 'required' in schema()",
        )

    def test_parameters_are_frozen(self) -> None:
        """Nobody changes parameters by accident."""
        cls = self.subject.parameters
        expect(
            getattr(cls, "__setattr__", None) is not object.__setattr__
            and cls.__setattr__.__name__ == "_frozen_setattrs",
            f"make {cls.__name__} frozen (attrs.frozen)",
        )

    def test_sections_are_valid(self, section: SectionArgument) -> None:
        """The schema accepts the sections that the suite is run with."""
        self._validate(section.section, "a section of the suite")

    def test_unknown_keys_are_errors(self, section: SectionArgument) -> None:
        """A slip of the pen is not lost."""
        try:
            self.parameters_of({**section.section, "no_such_parameter": 1})
        except ValidationError:
            return
        expect(False, "an unknown key in the config section must be an error; leave **kwargs out of the parameters")

    def test_parameters_round_trip(self, section: SectionArgument) -> None:
        """Parameters survive JSON."""
        params = self.parameters_of(section.section)
        text = json.dumps(unstructure(params))
        again: object = structure(json.loads(text), self.subject.parameters)
        expect(again == params, f"parameters change on the way through JSON: {params} became {again}")

    def test_imports_no_framework(self, section: SectionArgument) -> None:
        """Loading and running the algorithm imports no framework."""
        module = getattr(self.plugin, "__name__", None)
        plugin = "None" if module is None else f"__import__('importlib').import_module({module!r})"
        code = _RUN.format(algorithm=self.algorithm, plugin=plugin, section=json.loads(json.dumps(section.section)))
        found = frameworks_imported_by(code)
        expect(
            not found,
            f"running the algorithm on a numpy model imported {', '.join(found)}; an algorithm knows no framework: "
            "all it needs of a model is in the graph",
        )

    def _validate(self, section: object, what: str) -> None:
        import jsonschema

        schema = self.subject.schema()
        try:
            jsonschema.Draft7Validator(schema).validate(section)
        except jsonschema.ValidationError as error:
            expect(False, f"{what} are not valid under schema(): {error.message} at {list(error.path)}")
