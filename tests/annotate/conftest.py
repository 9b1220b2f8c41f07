import pytest

from pchmr.body import BodyModel, load_body


@pytest.fixture(scope="session")
def body() -> BodyModel:
    return load_body()
