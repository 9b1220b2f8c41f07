import pytest
import torch
from figure import HEIGHT, WIDTH, RedModel, picture

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.data.crops import MARGIN, Square
from pchmr.data.errors import InputError
from pchmr.inference import Predictor
from pchmr.inference.predictor import square_of


@pytest.fixture
def predictor(tiny_body: BodyModel) -> Predictor:
    return Predictor(RedModel(tiny_body), tiny_body, RedModel.image_size)


def test_looks_at_the_whole_then_closer_twice(predictor: Predictor) -> None:
    person = predictor.search(picture(150, 40, 180, 120))
    assert predictor.model.num_looks == 3
    square = person.square
    # The red model matches the box's height, with the eighth of a crop that a pixel may be off.
    assert (square.x, square.y) == pytest.approx((165, 80), abs=4)
    assert square.side == pytest.approx(_side(predictor, 80), rel=0.1)


def _side(predictor: Predictor, height: float) -> float:
    """Side of the square around a mesh that is `height` pixels high."""
    extent = predictor.model.vertices[0].amax(dim=0) - predictor.model.vertices[0].amin(dim=0)
    return MARGIN * height * float(max(extent[0], extent[1]) / extent[1])


def test_mesh_and_joints_are_about_the_hips(predictor: Predictor) -> None:
    person = predictor.search(picture(150, 40, 180, 120))
    hips = person.joints[list(EVALUATION_14.root)].mean(dim=0)
    torch.testing.assert_close(hips, torch.zeros(3), atol=1e-6, rtol=0)
    regressed = predictor.body.regress(person.vertices, EVALUATION_14)
    torch.testing.assert_close(person.joints, regressed, atol=1e-5, rtol=0)


def test_a_box_is_the_crop(predictor: Predictor) -> None:
    person = predictor.predict(picture(150, 40, 180, 120), (145.0, 30.0, 185.0, 130.0))
    assert person.square == Square(165.0, 80.0, MARGIN * 100)
    assert predictor.model.num_looks == 1
    with pytest.raises(InputError, match="too small to use"):
        predictor.predict(picture(150, 40, 180, 120), (0.0, 0.0, 9.0, 9.0))


@pytest.mark.parametrize(
    "camera",
    [(0.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (float("nan"), 0, 0), (1.0, 90.0, 0.0), (1e4, 0, 0)],
)
def test_a_useless_camera_gives_no_square(
    predictor: Predictor, camera: tuple[float, float, float]
) -> None:
    person = predictor.search(picture(150, 40, 180, 120))
    lost = type(person)(**{**vars(person), "camera": torch.tensor(camera)})
    assert square_of(lost, WIDTH, HEIGHT) is None
