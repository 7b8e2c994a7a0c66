"""Environments that the tests of this folder share."""

import pytest

from tests.plugins.fresh import build_wheels, make_environment


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    return build_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def environment_with(wheels, tmp_path_factory):
    """Makes an environment with nncf-core and other distributions; once for each choice."""
    made = {}

    def make(*names):
        if names not in made:
            chosen = [wheels[name] for name in ("nncf-core", *names)]
            made[names] = make_environment(tmp_path_factory.mktemp("environment") / "venv", chosen)
        return made[names]

    return make
