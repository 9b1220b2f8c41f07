"""The renderer on scenes whose light, shadows and depth can be worked out by hand.

The person is a ball and the camera looks along -z of the world, so camera and world differ only in
the signs of y and z and in the camera's position.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from pchmr.data.synthetic.patterns import PATTERNS, pattern_weight
from pchmr.data.synthetic.picture import RenderedBatch, SceneBatch, box_corners, to_camera
from pchmr.data.synthetic.shading import render_scene

SIZE, FOCAL = 64, 70.0
RADIUS, CENTER = 0.5, (0.0, 0.8, 0.0)
POSITION = (0.0, 1.2, 4.0)
GROUND = (0.0, 1.0, 0.0, 0.0)
BACK = (0.0, 0.0, 1.0, 1.5)
LIGHT = (0.6, 0.8, 0.0)
SKY = ((0.7, 0.8, 0.9), (0.2, 0.4, 0.8))


def rows(*values: object) -> Tensor:
    """A batch of one."""
    return torch.tensor([values], dtype=torch.float32)


def ball(level: int = 4) -> tuple[Tensor, Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions=level, radius=RADIUS)
    return torch.from_numpy(np.array(mesh.vertices)).float(), torch.from_numpy(mesh.faces.copy())


def scene(
    planes: tuple[tuple[float, ...], ...] = (GROUND,),
    boxes: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (),
    light: tuple[float, float, float] = LIGHT,
    center: tuple[float, float, float] = CENTER,
) -> SceneBatch:
    """One picture of white things without ambient light; `boxes` are (center, size)."""
    points, faces = ball()
    rotation, position = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None], rows(*POSITION)
    num_boxes, num_planes, num_vertices = len(boxes), len(planes), len(points)
    corners = torch.zeros(1, 0, 8, 3)
    if boxes:
        middle, size = (torch.tensor([box[i] for box in boxes]) for i in (0, 1))
        world = box_corners(middle, size, torch.eye(3).expand(num_boxes, 3, 3))
        corners = to_camera(world.view(-1, 3), rotation[0], position[0]).view(1, num_boxes, 8, 3)
    return SceneBatch(
        vertices=to_camera(points[None] + torch.tensor(center), rotation, position),
        faces=faces,
        colors=torch.ones(1, num_vertices, 3),
        pattern_coords=points,
        pattern_kind=torch.zeros(1, num_vertices, dtype=torch.int64),
        pattern_scale=torch.ones(1, num_vertices),
        pattern_color=torch.zeros(1, num_vertices, 3),
        boxes=corners,
        box_active=torch.ones(1, num_boxes, dtype=torch.bool),
        box_color=torch.ones(1, num_boxes, 3),
        box_kind=torch.zeros(1, num_boxes, dtype=torch.int64),
        box_scale=torch.ones(1, num_boxes),
        box_pattern_color=torch.zeros(1, num_boxes, 3),
        planes=torch.tensor(planes)[None],
        plane_active=torch.ones(1, num_planes, dtype=torch.bool),
        plane_color=torch.ones(1, num_planes, 3),
        plane_kind=torch.zeros(1, num_planes, dtype=torch.int64),
        plane_scale=torch.ones(1, num_planes),
        plane_pattern_color=torch.zeros(1, num_planes, 3),
        sky_color=rows(*SKY),
        far=torch.tensor([1000.0]),
        intrinsics=rows([FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]),
        rotation=rotation,
        position=position,
        light_direction=rows(*light),
        light_color=torch.ones(1, 3),
        ambient_above=torch.zeros(1, 3),
        ambient_below=torch.zeros(1, 3),
        height=SIZE,
        width=SIZE,
    )


def several(*scenes: SceneBatch) -> SceneBatch:
    """Pictures of the same topology as one batch."""
    first, joined = scenes[0], {}
    for field in fields(first):
        value = getattr(first, field.name)
        if isinstance(value, Tensor) and field.name not in ("faces", "pattern_coords"):
            joined[field.name] = torch.cat([getattr(each, field.name) for each in scenes])
    return replace(first, **joined)


def rays() -> Tensor:
    """World directions (H, W, 3) of the pixels, one metre deep."""
    place = (torch.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL
    down, across = torch.meshgrid(place, place, indexing="ij")
    return torch.stack([across, -down, -torch.ones_like(across)], dim=-1)


def world_points(shown: RenderedBatch) -> Tensor:
    return torch.tensor(POSITION) + shown.depth[0, ..., None] * rays()


def behind_ball(points: Tensor, light: tuple[float, float, float], slack: float) -> Tensor:
    """Points from which the ball, grown by `slack`, hides the light."""
    toward, offset = torch.tensor(light), torch.tensor(CENTER) - points
    along = offset @ toward
    aside = (offset.square().sum(dim=-1) - along.square()).clamp_min(0).sqrt()
    return (along > 0) & (aside < RADIUS + slack)


def same(first: RenderedBatch, second: RenderedBatch) -> bool:
    return all(torch.equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))


def test_depth_mask_and_sky_of_a_ball_on_open_ground() -> None:
    shown = render_scene(scene())
    depth, mask = shown.depth[0], shown.person_mask[0]
    direction = rays()
    to_center = torch.tensor(CENTER) - torch.tensor(POSITION)
    length = direction.norm(dim=-1)
    along = (direction @ to_center) / length
    aside = (to_center.square().sum() - along.square()).clamp_min(0).sqrt()
    assert mask[aside < RADIUS - 0.02].all() and not mask[aside > RADIUS].any()
    hit = aside < RADIUS - 0.1
    wanted = (along - (RADIUS**2 - aside**2).clamp_min(0).sqrt()) / length
    torch.testing.assert_close(depth[hit], wanted[hit], rtol=0, atol=5e-3)
    ground = (direction[..., 1] < 0) & (aside > RADIUS)
    torch.testing.assert_close(depth[ground], -POSITION[1] / direction[ground][:, 1])
    sky = (direction[..., 1] > 0) & (aside > RADIUS)
    assert sky.any() and depth[sky].eq(0).all()
    assert shown.visible_fraction.tolist() == [1.0]


def test_shadow_of_the_ball_lies_where_the_light_puts_it() -> None:
    shown = render_scene(scene())
    points, brightness = world_points(shown), shown.images[0, 0]
    ground = (shown.depth[0] > 0) & (shown.depth[0] < 12) & ~shown.person_mask[0]
    dark = ground & behind_ball(points, LIGHT, -0.02)
    lit = ground & ~behind_ball(points, LIGHT, 0.02)
    assert dark.sum() > 40 and lit.sum() > 500
    assert brightness[dark].max() == 0
    torch.testing.assert_close(brightness[lit], torch.full((int(lit.sum()),), LIGHT[1]))


def test_wall_receives_the_shadow() -> None:
    light = (0.48, 0.14, 0.8660254)
    shown = render_scene(scene(planes=(GROUND, BACK), light=light))
    points, brightness = world_points(shown), shown.images[0, 0]
    wall = ((points[..., 2] + BACK[3]).abs() < 1e-3) & ~shown.person_mask[0]
    dark = wall & behind_ball(points, light, -0.02)
    lit = wall & ~behind_ball(points, light, 0.02)
    assert dark.sum() > 20 and lit.sum() > 500
    assert brightness[dark].max() == 0
    torch.testing.assert_close(brightness[lit], torch.full((int(lit.sum()),), light[2]))


def test_ball_alone_is_lambert_without_speckles() -> None:
    """No pixel of the lit side is darkened by the ball's own shadow."""
    shown = render_scene(replace(scene(), plane_active=torch.zeros(1, 1, dtype=torch.bool)))
    mask = shown.person_mask[0]
    normal = (world_points(shown) - torch.tensor(CENTER)) / RADIUS
    cosine = (normal @ torch.tensor(LIGHT)).clamp_min(0)
    surely = mask & (cosine > 0.1)
    assert surely.sum() > 100
    torch.testing.assert_close(shown.images[0, 0][surely], cosine[surely], rtol=0, atol=0.03)
    assert shown.images[0, 0][mask & (normal @ torch.tensor(LIGHT) < -0.05)].max() == 0


def test_box_and_ball_shade_each_other() -> None:
    above = (0.0, 1.0, 0.0)
    roof = scene(boxes=(((0.0, 1.8, 0.0), (1.6, 0.1, 1.6)),), light=above)
    shown = render_scene(roof)
    assert shown.person_mask[0].any()
    assert shown.images[0, 0][shown.person_mask[0]].max() == 0
    table = render_scene(scene(boxes=(((0.0, 0.1, 0.0), (1.6, 0.1, 1.6)),), light=above))
    points = world_points(table)
    top = ((points[..., 1] - 0.15).abs() < 1e-3) & ~table.person_mask[0]
    apart = points[..., ::2].norm(dim=-1)
    assert table.images[0, 0][top & (apart < RADIUS - 0.03)].max() == 0
    assert table.images[0, 0][top & (apart > RADIUS + 0.03)].min() == pytest.approx(1)


def test_inactive_boxes_neither_show_nor_shade() -> None:
    crowded = scene(boxes=(((0.5, 1.2, 0.5), (0.4, 0.4, 0.4)),))
    absent = render_scene(replace(crowded, box_active=torch.zeros(1, 1, dtype=torch.bool)))
    assert same(absent, render_scene(scene()))
    assert not same(render_scene(crowded), absent)


@pytest.mark.parametrize(("width", "fraction"), [(4.0, 0.0), (1.0, 0.5)])
def test_visible_fraction_counts_what_boxes_hide(width: float, fraction: float) -> None:
    """A plate before the camera hides the ball, or the half of it that lies to the right."""
    left = 0.0 if fraction else -width / 2
    shown = render_scene(scene(boxes=(((left + width / 2, 1.0, 3.0), (width, 2.0, 0.1)),)))
    assert shown.visible_fraction.item() == pytest.approx(fraction, abs=0.03)
    assert shown.person_mask.any() == (fraction > 0)


def test_person_outside_the_picture_is_not_visible() -> None:
    shown = render_scene(scene(center=(30.0, 0.8, 0.0)))
    assert shown.visible_fraction.tolist() == [0.0] and not shown.person_mask.any()


def test_nearest_plane_wins_and_one_behind_the_camera_is_not_drawn() -> None:
    room = scene(planes=(GROUND, BACK, (0.0, 0.0, -1.0, 2.0)), center=(30.0, 0.8, 0.0))
    shown = render_scene(room)
    direction = rays()
    wanted = torch.full((SIZE, SIZE), POSITION[2] + BACK[3])
    wanted = wanted.minimum(POSITION[1] / (-direction[..., 1]).clamp_min(1e-9))
    torch.testing.assert_close(shown.depth[0], wanted, rtol=1e-4, atol=1e-4)


def test_horizon_of_a_level_camera_is_straight_and_the_far_ground_fades() -> None:
    shown = render_scene(replace(scene(center=(30.0, 0.8, 0.0)), far=torch.tensor([40.0])))
    sky = shown.depth[0] == 0
    assert (sky == sky[:, :1]).all() and sky[: SIZE // 2].all() and not sky[-1].any()
    edge = shown.images[0, :, SIZE // 2]
    torch.testing.assert_close(edge, torch.tensor(SKY[0])[:, None].expand(3, SIZE))


def test_ambient_light_depends_on_where_a_surface_faces() -> None:
    dim = replace(
        scene(planes=(GROUND, BACK)),
        light_color=torch.zeros(1, 3),
        ambient_above=torch.full((1, 3), 0.6),
        ambient_below=torch.full((1, 3), 0.2),
    )
    shown = render_scene(dim)
    points, seen = world_points(shown), shown.images[0, 0]
    away = ~shown.person_mask[0]
    torch.testing.assert_close(seen[away & (points[..., 1] < 1e-4)].unique(), torch.tensor([0.6]))
    wall = away & (points[..., 1] > 1e-2)
    torch.testing.assert_close(seen[wall].unique(), torch.tensor([0.4]))


def test_patterns_are_drawn_at_their_own_coordinates() -> None:
    """Half a metre of checker on the ground, rows in template height on the ball."""
    base = scene(center=(0.0, 0.8, 0.0))
    dressed = replace(
        base,
        light_color=torch.zeros(1, 3),
        ambient_above=torch.ones(1, 3),
        ambient_below=torch.ones(1, 3),
        plane_kind=torch.full((1, 1), PATTERNS["checker"]),
        plane_scale=torch.full((1, 1), 1.0),
        pattern_kind=torch.full_like(base.pattern_kind, PATTERNS["rows"]),
        pattern_scale=torch.full_like(base.pattern_scale, 0.4),
    )
    shown = render_scene(dressed)
    points, seen = world_points(shown), shown.images[0, 0]

    def inner(t: Tensor, margin: float) -> Tensor:
        u = t - t.floor()
        return ((u - 0.25).abs() > margin) & ((u - 0.75).abs() > margin)

    def band(t: Tensor) -> Tensor:
        return ((t - t.floor()) - 0.5).abs() < 0.25

    ground = (points[..., 1].abs() < 1e-4) & (shown.depth[0] < 5) & (shown.depth[0] > 0)
    x, z = points[..., 0], points[..., 2]
    sure = ground & inner(x, 0.15) & inner(z, 0.15)
    dark = band(x) ^ band(z)
    assert (sure & dark).any() and (sure & ~dark).any()
    assert seen[sure & dark].max() < 0.05 and seen[sure & ~dark].min() > 0.95
    height = (points[..., 1] - CENTER[1]) / 0.4
    sure = shown.person_mask[0] & inner(height, 0.12)
    assert seen[sure & band(height)].max() < 0.05 and seen[sure & ~band(height)].min() > 0.95


@pytest.mark.parametrize("name", list(PATTERNS))
def test_pattern_weights_lie_in_range_and_fade_in_the_distance(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    points = 20 * torch.rand(3, 4000, generator=generator) - 10
    kind = torch.full((4000,), PATTERNS[name])
    near = pattern_weight(kind, points, torch.full((4000,), 0.01))
    far = pattern_weight(kind, points, torch.full((4000,), 5.0))
    assert near.min() >= 0 and near.max() <= 1
    assert far.max() - far.min() < 0.05
    assert near.mean().item() == pytest.approx(far.mean().item(), abs=0.2)
    if name != "plain":
        assert near.std() > 0.05


def test_points_of_several_kinds_do_not_disturb_each_other() -> None:
    generator = torch.Generator().manual_seed(1)
    points, size = torch.rand(3, 500, generator=generator) * 4, torch.full((500,), 0.05)
    kind = torch.randint(0, len(PATTERNS), (500,), generator=generator)
    together = pattern_weight(kind, points, size)
    for value in PATTERNS.values():
        rows = kind == value
        alone = pattern_weight(kind[rows], points[:, rows], size[rows])
        assert torch.equal(together[rows], alone)


def varied() -> list[SceneBatch]:
    """Eight unlike pictures with two boxes and three planes."""
    walls = (GROUND, BACK, (1.0, 0.0, 0.0, 2.0))
    made = []
    for i in range(8):
        turn = 0.4 * i
        light = torch.tensor([np.sin(turn), 1.2, np.cos(turn)]).float()
        each = scene(
            planes=walls,
            boxes=(((0.6, 0.3, -0.4), (0.5, 0.6, 0.4)), ((-0.5, 0.2, 1.0 - 0.1 * i), (0.4,) * 3)),
            light=tuple((light / light.norm()).tolist()),
            center=(0.1 * i - 0.4, 0.8, 0.05 * i),
        )
        made.append(
            replace(
                each,
                plane_kind=torch.tensor([[i, i + 2, 8 - i]]) % len(PATTERNS),
                pattern_kind=torch.full_like(each.pattern_kind, (3 * i) % len(PATTERNS)),
                pattern_scale=torch.full_like(each.pattern_scale, 0.2),
                box_active=torch.tensor([[i % 2 == 0, True]]),
                plane_active=torch.tensor([[True, i % 3 > 0, i % 4 > 0]]),
                far=torch.tensor([30.0 + i]),
            )
        )
    return made


def test_a_batch_equals_its_pictures_bit_for_bit_and_again() -> None:
    pictures = varied()
    whole = render_scene(several(*pictures))
    assert whole.images.isfinite().all() and whole.images.min() >= 0 and whole.images.max() <= 1
    for i, picture in enumerate(pictures):
        alone = render_scene(picture)
        for field in fields(alone):
            part = getattr(whole, field.name)[i : i + 1]
            assert torch.equal(part, getattr(alone, field.name)), (i, field.name)
    assert same(whole, render_scene(several(*pictures)))


def test_supersampling_smooths_edges_and_keeps_labels_plain() -> None:
    plain = render_scene(scene())
    fine = render_scene(replace(scene(), supersample=2))
    assert fine.images.shape == plain.images.shape
    assert (fine.person_mask != plain.person_mask).float().mean() < 0.02
    inside = plain.person_mask & fine.person_mask
    assert (fine.depth - plain.depth)[inside].abs().median() < 0.02
    direction = rays()
    assert fine.depth[0][(direction[..., 1] > 0.05) & ~fine.person_mask[0]].max() < 5
    levels = [len(each.images[0, 0].unique()) for each in (plain, fine)]
    assert levels[1] > levels[0]


def test_box_corners_follow_their_numbering() -> None:
    corners = box_corners(
        torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0]), torch.eye(3)
    )
    assert corners[0].tolist() == [0, 0, 0] and corners[7].tolist() == [2, 4, 6]
    assert corners[4].tolist() == [2, 0, 0]
    assert corners[2].tolist() == [0, 4, 0] and corners[1].tolist() == [0, 0, 6]


def test_world_points_go_to_the_camera() -> None:
    rotation, position = torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.tensor(POSITION)
    assert to_camera(torch.tensor([[0.5, 1.2, 1.0]]), rotation, position).tolist() == [[0.5, 0, 3]]


@pytest.mark.gpu
def test_cuda_draws_the_same_picture() -> None:
    batch = several(*varied())
    here, there = render_scene(batch), render_scene(batch.to("cuda"))
    apart = (here.images - there.images.cpu()).abs().amax(dim=1)
    assert (apart < 0.01).float().mean() > 0.995
    assert (here.person_mask == there.person_mask.cpu()).float().mean() > 0.998
