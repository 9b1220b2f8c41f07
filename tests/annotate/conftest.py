"""People with oracle observations, drawn once for the room's tests."""

import pytest

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.observations import Observations
from pchmr.bench.annotators.oracle import OracleNoise, People, draw_people, observe
from pchmr.body import BodyModel

CLEAN = OracleNoise(
    pixel_sd=0.0, outlier_share=0.0, depth_smooth=0.0, depth_white=0.0, scale_sd=0.0, shift_sd=0.0,
    focal_sd=0.0,
)  # fmt: skip


@pytest.fixture(scope="session")
def annotator(body: BodyModel) -> Annotator:
    return Annotator(body)


@pytest.fixture(scope="session")
def people(body: BodyModel) -> People:
    return draw_people(body, 6, domain="B", seed=3)


@pytest.fixture(scope="session")
def noisy(body: BodyModel, people: People) -> Observations:
    return observe(body, people, OracleNoise())


@pytest.fixture(scope="session")
def clean(body: BodyModel, people: People) -> Observations:
    return observe(body, people, CLEAN)
