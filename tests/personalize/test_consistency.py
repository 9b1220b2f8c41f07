"""Consistency without truth, on a figure whose places are known."""

import numpy as np
import torch

from pchmr.body import load_body
from pchmr.body.joints import EVALUATION_14
from pchmr.geometry import project_weak_perspective
from pchmr.models.output import HMROutput
from pchmr.perception.people import LIMBS
from pchmr.personalize.consistency import consistency

from .test_lessons import Numbered

BODY = load_body()
CAMERA = torch.tensor([[0.8, 0.0, 0.1]])


class Still(torch.nn.Module):
    """Sees the template, whatever the picture."""

    def forward(self, images: torch.Tensor) -> HMROutput:
        vertices = BODY.v_template[None].expand(len(images), -1, -1)
        coarse = vertices[:, :1]
        joints = BODY.regress(vertices, EVALUATION_14)
        return HMROutput(CAMERA.expand(len(images), 3), joints, coarse, coarse, vertices)


def limbs_seen(shift: float) -> np.ndarray:
    joints = BODY.regress(BODY.v_template[None], EVALUATION_14)
    places = project_weak_perspective(joints[:, list(EVALUATION_14.indices(LIMBS))], CAMERA)[0]
    size = float((places.amax(dim=0) - places.amin(dim=0)).max())
    seen = torch.cat([places + torch.tensor([shift * size, 0.0]), torch.ones(len(LIMBS), 1)], 1)
    return seen.double().numpy()[None].repeat(5, axis=0)


def test_a_still_figure_trembles_nowhere_and_lies_where_it_is_seen() -> None:
    people, times = Numbered(0.0, 5), np.arange(5) / 25
    told = consistency(Still(), BODY, people, 8, times, limbs_seen(0.0))
    assert max(abs(value) for value in told.values()) < 1e-3
    told = consistency(Still(), BODY, people, 8, times, limbs_seen(0.1))
    np.testing.assert_allclose(told["limbs_apart_percent"], 10.0, rtol=1e-3)


def test_photos_have_no_motion_and_nobody_else_may_have_looked() -> None:
    told = consistency(Still(), BODY, Numbered(0.0, 5), 8, None, None)
    assert set(told.values()) == {None}
