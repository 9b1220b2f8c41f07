import dataclasses

import numpy as np
import pytest
import torch

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.data.synthetic.check import contact_gaps
from pchmr.data.synthetic.domains import DOMAINS
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.poses import LIMITS
from pchmr.data.synthetic.recipe import SyntheticRecipe
from pchmr.data.synthetic.render import Rendered, render_rows
from pchmr.data.synthetic.subjects import draw_outfit
from pchmr.data.synthetic.world import Posed, World

POSED, SHOWN = 96, 12


@pytest.fixture(scope="module", params=list(DOMAINS))
def world(request: pytest.FixtureRequest, body: BodyModel) -> World:
    return World(SyntheticRecipe(domain=request.param, num_samples=POSED, image_size=64), body)


@pytest.fixture(scope="module")
def posed(world: World) -> Posed:
    return world.pose(layout(world.recipe))


@pytest.fixture(scope="module")
def shown(world: World) -> Rendered:
    return render_rows(world, layout(world.recipe).take(slice(0, SHOWN)))


def skinned(body: BodyModel, labels: dict[str, np.ndarray]) -> torch.Tensor:
    names = ("global_orient", "body_pose", "betas", "transl")
    return body(*(torch.from_numpy(labels[name]) for name in names)).vertices


def test_people_stand_on_the_ground(world: World, posed: Posed) -> None:
    gap, sink = contact_gaps(world, posed)
    assert sink.max() < 0.01
    assert np.median(gap) < 0.003
    crossed = layout(world.recipe).action == "cross_legged"  # one foot lies on the other leg
    seat = posed.vertices[..., 1].cpu().numpy()[:, world.hips].min(axis=1)
    assert seat[crossed].max(initial=0) < 0.05
    gap[crossed] = 0
    rigid = posed.stance.knelt.any(axis=1) | (posed.angles["knee_flexion"].max(axis=1) > 100)
    assert gap[~rigid].max() < 0.01
    assert gap.max() < 0.02


def test_joints_keep_their_limits(posed: Posed) -> None:
    for name, (low, high) in LIMITS.items():
        assert posed.angles[name].min() >= low - 1e-9
        assert posed.angles[name].max() <= high + 1e-9


def test_left_and_right_are_balanced(posed: Posed) -> None:
    assert 0.3 < posed.mirrored.mean() < 0.7


def test_undressed_vertices_agree_to_a_tenth_of_a_millimetre(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = World(world.recipe, world.body)

    def undress(subject, scene):
        surface = world.dressed(subject, scene)
        return dataclasses.replace(surface, offsets=np.zeros_like(surface.offsets))

    monkeypatch.setattr(bare, "dressed", undress)
    rows = layout(bare.recipe).take(slice(0, 6))
    rendered = []
    import pchmr.data.synthetic.render as render

    real = render.render_scene
    monkeypatch.setattr(
        render, "render_scene", lambda scene: rendered.append(scene.vertices) or real(scene)
    )
    labels = render_rows(bare, rows).labels
    assert (skinned(bare.body, labels) - rendered[0]).abs().max() < 1e-4


def test_joints_lie_on_the_person(shown: Rendered) -> None:
    keypoints, size = shown.labels["keypoints_2d"], shown.images.shape[1]
    seen = shown.labels["visible"] > 0.95
    hits = []
    for row in np.flatnonzero(seen):
        inside = keypoints[row, :, 2] > 0
        x, y = ((keypoints[row, inside, :2].T + 1) / 2 * size).astype(int).clip(0, size - 1)
        hits += shown.person_mask[row][y, x].tolist()
    assert np.mean(hits) > 0.95


def test_joints_are_about_their_root_and_confident(world: World, shown: Rendered) -> None:
    joints = shown.labels["joints"]
    root = joints[:, list(EVALUATION_14.root), :3].mean(axis=1)
    assert np.abs(root).max() < 1e-5
    assert (joints[..., 3] == 1).all()
    keypoints = shown.labels["keypoints_2d"]
    inside = (np.abs(keypoints[..., :2]) <= 1).all(axis=-1)
    assert (keypoints[..., 2] == inside).all()


def test_rows_do_not_depend_on_their_batch(world: World, shown: Rendered) -> None:
    alone = render_rows(world, layout(world.recipe).take(slice(3, 5)))
    np.testing.assert_allclose(alone.labels["transl"], shown.labels["transl"][3:5], atol=1e-6)
    difference = np.abs(alone.images.astype(int) - shown.images[3:5])
    assert np.median(difference) == 0


@pytest.mark.parametrize(("version", "count"), [(1, 4), (2, 12)])
def test_headset_wearers_differ(body: BodyModel, version: int, count: int) -> None:
    recipe = SyntheticRecipe(domain="V", num_samples=240, image_size=64, version=version)
    world = World(recipe, body)
    people = [world.subject(s) for s in np.unique(layout(world.recipe).subject).tolist()]
    assert len(people) == count
    for i, one in enumerate(people):
        assert one.headset is not None
        for other in people[:i]:
            assert np.abs(one.betas - other.betas).max() > (0.8 if version == 1 else 0.5)
            if version == 1:  # of twelve, two may have one tone
                assert np.abs(one.skin - other.skin).max() > 0.05


def test_clothes_lie_off_the_skin(world: World) -> None:
    outfit = draw_outfit(np.random.default_rng(0), "mixed")
    subject = world.subject(int(layout(world.recipe).subject[0]))
    surface = world.wardrobe.dress(subject, outfit)
    thickness = np.linalg.norm(surface.offsets, axis=1)
    torso = world.wardrobe.part == "spine2"
    assert (thickness[torso] > 0.004).mean() > 0.9
    assert np.quantile(thickness, 0.95) < 0.05
