"""What a picture costs: posed people of the embedded body, three boxes, a room, light and shadow.

Every picture has patterns on cloth, boxes, ground and walls; one in four is outdoors.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig
from pchmr.data.synthetic.overlays import rasterize
from pchmr.data.synthetic.patterns import PATTERNS
from pchmr.data.synthetic.picture import SceneBatch, box_corners, to_camera
from pchmr.data.synthetic.shading import render_scene
from pchmr.geometry import rotvec_to_rotmat
from pchmr.results import MEASURED, ResultRow, Target, figure
from pchmr.seeds import derive_seed

BATCH, SIZE, NUM_BOXES = 16, 224, 3
TARGET_MS = 15.0
DISTANCE, LOOK_AT = 4.0, 0.85  # metres; the crop is a fifth longer than a person is tall
FOCAL = 0.8 * SIZE * DISTANCE / 1.75
GROUND, BACK, LEFT, RIGHT = (0, 1, 0, 0), (0, 0, 1, 1.5), (1, 0, 0, 2.0), (-1, 0, 0, 2.0)


def tables(config: BenchConfig) -> list[ResultRow]:
    """Rows of the table `rasterizer`: CPU milliseconds per image on one thread."""
    scene = bench_scene(load_body())
    what = f"{SIZE}x{SIZE}, {scene.vertices.shape[1]} vertices, {len(scene.faces)} faces"
    shaded = image_ms(lambda: render_scene(scene), config.repeats)
    bare = image_ms(
        lambda: rasterize(scene.vertices, scene.faces, scene.intrinsics, SIZE, SIZE), config.repeats
    )
    rows = []
    for name, times, target in (
        (f"picture with shading and shadow, {what}", shaded, Target("<=", TARGET_MS)),
        (f"z-buffer and fragments alone, {what}", bare, MEASURED),
    ):
        rows.append(_row(f"{name}, min", min(times), target))
        rows.append(_row(f"{name}, median", median(times), target))
    return rows


@torch.no_grad()
def image_ms(draw: Callable[[], object], repeats: int) -> list[float]:
    """CPU milliseconds per image of each repeat, after one warm-up."""
    draw()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        draw()
        times.append(1000.0 * (time.process_time() - began) / BATCH)
    return times


def bench_scene(body: BodyModel) -> SceneBatch:
    """Sixteen people on the ground, each before an own camera, with furniture around them."""
    generator = torch.Generator().manual_seed(derive_seed(0, "bench", "rasterizer"))

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(BATCH, *shape, generator=generator)

    def kinds(*shape: int) -> Tensor:
        return torch.randint(0, len(PATTERNS), (BATCH, *shape), generator=generator)

    rotation = _level_camera() @ rotvec_to_rotmat(_about_x(drawn(-0.05, 0.35)))
    forward = rotation[:, 2]
    position = torch.tensor([0.0, LOOK_AT, 0.0]) - DISTANCE * forward
    people = _people(body, drawn(-3.14, 3.14), generator)
    boxes = to_camera(_furniture(drawn).flatten(1, 2), rotation, position)
    light = torch.stack([drawn(-1, 1), drawn(0.7, 1.3), drawn(0, 1)], dim=-1)
    count = people.shape[1]
    camera = torch.tensor([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])
    return SceneBatch(
        vertices=to_camera(people, rotation, position),
        faces=body.faces,
        colors=drawn(0.1, 0.9, 1, 3).repeat(1, count, 1),
        pattern_coords=body.v_template,
        pattern_kind=kinds(1).repeat(1, count),
        pattern_scale=torch.full((BATCH, count), 0.08),
        pattern_color=drawn(0.1, 0.9, 1, 3).repeat(1, count, 1),
        boxes=boxes.view(BATCH, NUM_BOXES, 8, 3),
        box_active=torch.ones(BATCH, NUM_BOXES, dtype=torch.bool),
        box_color=drawn(0.2, 0.8, NUM_BOXES, 3),
        box_kind=kinds(NUM_BOXES),
        box_scale=torch.full((BATCH, NUM_BOXES), 0.2),
        box_pattern_color=drawn(0.1, 0.8, NUM_BOXES, 3),
        planes=torch.tensor([GROUND, BACK, LEFT, RIGHT]).float().repeat(BATCH, 1, 1),
        plane_active=_walls(),
        plane_color=drawn(0.3, 0.8, 4, 3),
        plane_kind=kinds(4),
        plane_scale=drawn(0.3, 0.6, 4),
        plane_pattern_color=drawn(0.2, 0.8, 4, 3),
        sky_color=torch.tensor([[0.75, 0.82, 0.9], [0.3, 0.5, 0.85]]).repeat(BATCH, 1, 1),
        far=torch.full((BATCH,), 60.0),
        intrinsics=camera.repeat(BATCH, 1, 1),
        rotation=rotation,
        position=position,
        light_direction=torch.nn.functional.normalize(light, dim=-1),
        light_color=drawn(0.5, 0.9, 3),
        ambient_above=drawn(0.35, 0.6, 3),
        ambient_below=drawn(0.2, 0.3, 3),
        height=SIZE,
        width=SIZE,
    )


def _furniture(drawn: Callable[..., Tensor]) -> Tensor:
    """Corners of boxes on the ground, in the world."""
    size = drawn(0.3, 0.8, NUM_BOXES, 3)
    middle = torch.stack(
        [drawn(-1.2, 1.2, NUM_BOXES), size[..., 1] / 2, drawn(-1.0, 1.2, NUM_BOXES)], dim=-1
    )
    turns = rotvec_to_rotmat(_about_y(drawn(-3.14, 3.14, NUM_BOXES)))
    return box_corners(middle, size, turns)


def _walls() -> Tensor:
    """Which planes there are: the ground always, every fourth scene has no wall."""
    active = torch.ones(BATCH, 4, dtype=torch.bool)
    active[::4, 1:] = False
    return active


def _people(body: BodyModel, heading: Tensor, generator: torch.Generator) -> Tensor:
    """Loosely posed people in the world, each with the lowest vertex on the ground."""
    pose = 0.15 * torch.randn(BATCH, len(body.parents) - 1, 3, generator=generator)
    betas = torch.randn(BATCH, body.num_betas, generator=generator)
    still = torch.zeros(BATCH, 3)
    with torch.no_grad():
        vertices = body(_about_y(heading), pose, betas, still).vertices
    vertices[..., 1] -= vertices[..., 1].amin(dim=1, keepdim=True)
    return vertices


def _level_camera() -> Tensor:
    """World (y up) to camera (y down) of a camera that looks along -z."""
    return torch.diag(torch.tensor([1.0, -1.0, -1.0]))


def _about_x(angle: Tensor) -> Tensor:
    return torch.nn.functional.pad(angle[..., None], (0, 2))


def _about_y(angle: Tensor) -> Tensor:
    return torch.nn.functional.pad(angle[..., None], (1, 1))


def _row(label: str, value: float, target: Target) -> ResultRow:
    return figure(label, round(value, 3), "CPU-ms/image", target)
