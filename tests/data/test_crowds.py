"""Crowds: everybody's keypoints lie on them, and who stands in front hides who stands behind."""

import numpy as np
import pytest

from pchmr.body import BodyModel
from pchmr.data.synthetic import SyntheticRecipe
from pchmr.data.synthetic.crowds import compose, whole_rows
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.render import Rendered, render_rows
from pchmr.data.synthetic.world import World


@pytest.fixture(scope="module")
def shown(body: BodyModel) -> Rendered:
    recipe = SyntheticRecipe(domain="A", split="test", num_samples=12, image_size=64, seed=3)
    return render_rows(World(recipe, body), layout(recipe))


def painted(shown: Rendered, rows: np.ndarray) -> Rendered:
    """The same people in one color each, on black."""
    images = np.zeros_like(shown.images)
    for number, row in enumerate(rows):
        images[row][shown.person_mask[row]] = [0, 0, 0]
        images[row][shown.person_mask[row], number] = 255
    return Rendered(images=images, labels=shown.labels, person_mask=shown.person_mask)


def test_people_are_where_their_keypoints_say(shown: Rendered) -> None:
    rows = whole_rows(shown)[:3]
    assert len(rows) == 3
    for seed in range(4):
        crowd = compose(painted(shown, rows), rows, np.random.default_rng(seed), 160, 240)
        assert crowd.image.shape == (160, 240, 3) and crowd.keypoints.shape == (3, 14, 3)
        front = crowd.keypoints[-1]
        inside = front[front[:, 2] > 0, :2].astype(int)
        on = crowd.image[inside[:, 1].clip(0, 159), inside[:, 0].clip(0, 239), 2] > 128
        assert on.mean() > 0.7
        assert crowd.visible[-1] == pytest.approx(1, abs=1e-9) or inside[:, 0].max() >= 230
        assert (crowd.visible <= 1).all()


def test_the_same_seed_gives_the_same_picture(shown: Rendered) -> None:
    rows = whole_rows(shown)[:2]
    first, second = (compose(shown, rows, np.random.default_rng(7), 90, 150) for _ in range(2))
    assert (first.image == second.image).all() and (first.keypoints == second.keypoints).all()


def test_who_stands_behind_is_hidden(shown: Rendered) -> None:
    rows = whole_rows(shown)[:4]
    hidden = [
        compose(shown, rows, np.random.default_rng(seed), 120, 160).visible for seed in range(6)
    ]
    assert min(seen.min() for seen in hidden) < 0.9
