"""Random models, made once for all tests."""

from collections.abc import Callable

import pytest
from random_models import RandomModel, save_random_model


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RandomModel]:
    """Gives the random model of a family, by name."""
    made: dict[str, RandomModel] = {}

    def get(name: str) -> RandomModel:
        if name not in made:
            made[name] = save_random_model(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get
