"""World 2: its light against an integral, its dome against a ray, its clothes and its labels."""

import numpy as np
import pytest
import torch

from pchmr.body import BodyModel
from pchmr.data.synthetic.environments import basis, directions, environments, turned_irradiance
from pchmr.data.synthetic.garments import LAYERS
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.poses import rotation
from pchmr.data.synthetic.rays import Rays
from pchmr.data.synthetic.recipe import SyntheticRecipe
from pchmr.data.synthetic.render import render_rows
from pchmr.data.synthetic.surroundings import Surroundings, dome, reflected
from pchmr.data.synthetic.world import World

PLACE = "apartment"  # one whose stored picture clips little light


@pytest.fixture(scope="module")
def world(body: BodyModel) -> World:
    return World(SyntheticRecipe(domain="A", version=2, num_samples=6, image_size=64), body)


def panorama(**changes) -> Surroundings:
    """A dome whose picture is red north of its middle and green above the horizon."""
    toward = torch.from_numpy(directions(64, 128)).float()
    picture = torch.stack([(toward[..., 2] < 0).float(), (toward[..., 1] > 0).float()])
    picture = torch.cat([picture, torch.zeros_like(picture[:1])])
    values = {
        "pictures": picture[None],
        "which": torch.zeros(1, dtype=torch.long),
        "shown": torch.ones(1, dtype=torch.bool),
        "turn": torch.eye(3)[None],
        "center": torch.tensor([[0.0, 1.6, 0.0]]),
        "radius": torch.tensor([20.0]),
        "gain": torch.ones(1),
        "irradiance": torch.zeros(1, 9, 3),
        "softness": torch.ones(1),
    }
    return Surroundings(**(values | changes))


def test_light_of_a_place_is_the_integral_over_its_picture() -> None:
    place = environments()[PLACE]
    height, width = place.picture.shape[:2]
    toward = directions(height, width)
    area = np.sin((np.arange(height) + 0.5) * np.pi / height)[:, None]
    area = area * (np.pi / height) * (2 * np.pi / width)
    outside = (toward @ place.light_direction) <= 0.93
    for normal in np.eye(3):
        cosine = np.clip(toward @ normal, 0, None) * area * outside
        seen = (place.picture * cosine[..., None]).sum(axis=(0, 1)) / np.pi
        given = basis(normal) @ place.irradiance
        np.testing.assert_allclose(given, seen, rtol=0.3)


def test_turned_light_is_the_same_light_seen_from_another_side() -> None:
    place, turn = environments()[PLACE], rotation("y", np.array(70.0))
    normal = np.array([0.6, 0.48, 0.64])
    turned = basis(turn @ normal) @ turned_irradiance(place.irradiance, turn)
    np.testing.assert_allclose(turned, basis(normal) @ place.irradiance, atol=1e-9)


def test_torch_and_numpy_reflect_the_same_light() -> None:
    place = environments()[PLACE]
    normal = np.array([0.36, 0.8, -0.48])
    around = panorama(irradiance=torch.from_numpy(place.irradiance).float()[None])
    found = reflected(around, torch.from_numpy(normal).float().view(3, 1, 1, 1))
    np.testing.assert_allclose(found.flatten(), basis(normal) @ place.irradiance, rtol=1e-4)


def test_floor_of_the_dome_is_met_where_the_ray_meets_the_ground() -> None:
    level = torch.tensor([[[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]])  # looks along -z, y down
    position = torch.tensor([[0.0, 1.0, 3.0]])
    rays = Rays(torch.zeros(1, 1, 1), torch.tensor([[[0.5], [-0.5]]]))
    picture, floor = dome(panorama(), level, position, rays)
    assert floor[0, 0, 0] == pytest.approx(2.0)  # down by half a metre a metre, from one metre
    assert floor[0, 1, 0] == 0
    assert picture[1, 0, 0, 0] == 0 and picture[1, 0, 1, 0] == 1  # ground, then sky
    assert picture[0, 0, 1, 0] == 1


def test_floor_behind_the_middle_of_the_dome_shows_what_lies_behind_it() -> None:
    down = torch.tensor([[[1.0, 0, 0], [0, 0, -1], [0, -1, 0]]])  # straight down
    rays = Rays(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    for z, red in ((1.0, 0.0), (-1.0, 1.0)):
        picture, _ = dome(panorama(), down, torch.tensor([[0.0, 2.0, z]]), rays)
        assert picture[0, 0, 0, 0] == red


def test_everybody_wears_trousers_a_top_and_shoes(world: World) -> None:
    rows = layout(world.recipe)
    for subject, scene in zip(rows.subject.tolist(), rows.scene.tolist(), strict=True):
        fields = world.dressed(subject, scene).fields
        for name in ("trousers", "shirt", "shoes"):
            assert (fields[:, LAYERS.index(name)] > 0).mean() > 0.01, name


def test_clothes_stay_close_to_the_body(world: World) -> None:
    rows = layout(world.recipe)
    offsets = world.dressed(int(rows.subject[0]), int(rows.scene[0])).offsets
    assert np.linalg.norm(offsets, axis=-1).max() < 0.12


def test_labels_are_those_of_the_naked_body(world: World, body: BodyModel) -> None:
    found = render_rows(world, layout(world.recipe)).labels
    tensors = {name: torch.from_numpy(value) for name, value in found.items()}
    mesh = body(
        tensors["global_orient"], tensors["body_pose"], tensors["betas"], tensors["transl"]
    ).vertices
    pixels = mesh @ tensors["intrinsics"].mT
    inside = (pixels[..., :2] / pixels[..., 2:]).mean(dim=1)
    assert ((inside > -20) & (inside < 84)).all()


def test_a_row_looks_the_same_alone_and_in_a_batch(world: World) -> None:
    rows = layout(world.recipe)
    together = render_rows(world, rows).images
    alone = render_rows(world, rows.take(slice(2, 3))).images
    assert np.abs(together[2].astype(int) - alone[0]).max() <= 2


def test_sessions_of_a_headset_wearer_differ_in_place_and_clothes(body: BodyModel) -> None:
    parts = {
        split: layout(SyntheticRecipe(domain="V", version=2, split=split, num_samples=200))
        for split in ("train", "validation", "test")
    }
    subjects = [set(part.subject.tolist()) for part in parts.values()]
    assert subjects[0] == subjects[1] == subjects[2] and len(subjects[0]) >= 8
    scenes = [set(part.scene.tolist()) for part in parts.values()]
    assert not (scenes[0] & scenes[1] or scenes[0] & scenes[2] or scenes[1] & scenes[2])


def test_world_two_has_enough_held_out_people_for_a_percent() -> None:
    rows = layout(SyntheticRecipe(domain="B", version=2, split="test", num_samples=3000))
    assert len(set(rows.subject.tolist())) >= 550
