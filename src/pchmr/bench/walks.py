"""Clips of rendered people who walk in a circle before a camera that stands still, with truth.

The foot that goes backward under the body carries it and hardly moves; the path of the body follows
from that. While a foot is flat on the ground the leg is bent so that it does not move at all, so
contact is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from scipy.ndimage import gaussian_filter1d

from pchmr.bench.standing import Gait, standing
from pchmr.body import BodyModel
from pchmr.config import Domain
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.poses import rotation
from pchmr.data.synthetic.recipe import FRAMES_PER_SECOND, Rows, SyntheticRecipe
from pchmr.data.synthetic.render import Take, scene_batch
from pchmr.data.synthetic.sensor import develop
from pchmr.data.synthetic.shading import render_scene
from pchmr.data.synthetic.staging import FLIP, View, wall_planes
from pchmr.data.synthetic.world import Posed, World
from pchmr.geometry import rotmat_to_rotvec

TURN_RATE = 50.0  # degrees a second
DISTANCE, CAMERA_HEIGHT, PITCH = 5.5, 1.5, 6.0  # metres, metres, degrees
FIELD = 36.0  # degrees
CHUNK = 8
EVEN_SECONDS = 0.025  # over which the speed of the body is evened where the feet take turns
STANDS = 0.02  # metres a second below which a foot stands
SOLES = ("left_sole", "right_sole")


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A clip with everything known: metres in the camera, radians, pixels."""

    images: UInt8[ndarray, "frames height width 3"]
    time_seconds: Float[ndarray, " frames"]
    global_orient: Float[ndarray, "frames 3"]
    body_pose: Float[ndarray, "frames 23 3"]
    betas: Float[ndarray, " betas"]
    transl: Float[ndarray, "frames 3"]
    intrinsics: Float[ndarray, "3 3"]
    contact: Bool[ndarray, "frames 2"]
    """Whether the left and the right foot stands."""


def render_walk(
    body: BodyModel, *, domain: Domain = "B", seconds: float, fps: float, size: int, seed: int = 0
) -> Walk:
    """One person who walks, rendered frame by frame."""
    recipe = SyntheticRecipe(
        domain=domain, split="test", num_samples=8, image_size=size, seed=seed, version=2
    )
    world = World(recipe, body)
    times = np.arange(round(seconds * fps)) / fps
    rows = _rows(layout(recipe), times)
    posed = world.pose(rows)
    heading = TURN_RATE * times
    paths, contact = _on_the_ground(world, posed, heading, times)
    posed, contact = _standing(world, posed, heading, paths, contact, times)
    view = _view()
    takes = _takes(world, rows, posed, heading, paths, view)
    images = np.concatenate(list(_pictures(world, posed, takes)))
    rest = world.points.rest_joints(posed.betas)[:, 0]
    turns = np.stack([take.turn for take in takes])
    own = rest + np.stack([0 * times, posed.rise, 0 * times], axis=-1)
    moved = np.einsum("nxy,ny->nx", turns, own) + paths @ view.rotation.T + view.shift
    rotmat = posed.rotmat.copy()
    rotmat[:, 0] = turns @ rotmat[:, 0]
    pose = rotmat_to_rotvec(torch.from_numpy(rotmat)).double().numpy()
    return Walk(
        images=images,
        time_seconds=times,
        global_orient=pose[:, 0],
        body_pose=pose[:, 1:],
        betas=posed.betas[0],
        transl=moved - rest,
        intrinsics=view.intrinsics(size),
        contact=contact,
    )


def _rows(drawn: Rows, times: Float[ndarray, " frames"]) -> Rows:
    """One subject in one scene, walking, at times of our own."""
    first = drawn.take(np.zeros(len(times), dtype=np.int64))
    walk = np.full(len(times), "walk")
    return replace(first, action=walk, frame=times * FRAMES_PER_SECOND)


def _on_the_ground(
    world: World, posed: Posed, heading: Float[ndarray, " frames"], times: Float[ndarray, " frames"]
) -> tuple[Float[ndarray, "frames 3"], Bool[ndarray, "frames 2"]]:
    """Where the body's own frame is on the stage, so that the carrying foot hardly moves.

    And when each foot stands: its speed is below `STANDS`.
    """
    turns = rotation("y", heading)
    soles = [world.points.vertex[world.points.members[name]] for name in SOLES]
    own = posed.vertices.double().numpy()
    feet = [own[:, rows] for rows in soles]
    stage = [np.einsum("nxy,npy->npx", turns, foot) for foot in feet]
    back = np.stack([_moved(foot, foot) for foot in feet], axis=1)[..., 2]
    carrier = back.argmin(axis=1)  # the foot that goes backward under the body
    steps = np.stack([_moved(on, foot) for on, foot in zip(stage, feet, strict=True)], axis=1)
    taken = steps[np.arange(len(steps)), carrier] * [-1, 0, -1]
    taken = gaussian_filter1d(taken, EVEN_SECONDS / (times[1] - times[0]), axis=0, mode="nearest")
    path = np.concatenate([np.zeros((1, 3)), np.cumsum(taken, axis=0)])
    path -= (path.min(axis=0) + path.max(axis=0)) / 2
    speed = np.stack(
        [_moved(on + path[:, None], foot) for on, foot in zip(stage, feet, strict=True)]
    )
    slow = np.linalg.norm(speed, axis=-1).T / np.diff(times)[:, None] < STANDS
    return path, np.concatenate([slow[:1], slow])


def _standing(
    world: World,
    posed: Posed,
    heading: Float[ndarray, " frames"],
    paths: Float[ndarray, "frames 3"],
    contact: Bool[ndarray, "frames 2"],
    times: Float[ndarray, " frames"],
) -> tuple[Posed, Bool[ndarray, "frames 2"]]:
    """Bodies whose feet are held while they stand, and when they do."""
    up = np.stack([0 * times, posed.rise, 0 * times], axis=-1)
    gait = Gait(
        rotmat=posed.rotmat,
        rest=world.points.rest_joints(posed.betas),
        parents=world.points.parents,
        turns=rotation("y", heading),
        shifts=paths + up,
        times=times,
    )
    rotmat, held = standing(gait, contact)
    offsets = np.stack([surface.offsets for surface in posed.surfaces])
    vertices = world.skin(rotmat, posed.betas, offsets, posed.vertices.device)
    vertices[..., 1] += torch.from_numpy(posed.rise).to(vertices)[:, None]
    return replace(posed, rotmat=rotmat, vertices=vertices), held


def _moved(
    points: Float[ndarray, "frames points 3"], own: Float[ndarray, "frames points 3"]
) -> Float[ndarray, "steps 3"]:
    """How far the point moved that is lowest before and after each step."""
    lowest = np.maximum(own[1:, :, 1], own[:-1, :, 1]).argmin(axis=1)
    return np.diff(points, axis=0)[np.arange(len(lowest)), lowest]


def _view() -> View:
    turn = rotation("x", np.array(PITCH)) @ FLIP
    position = np.array([0.0, CAMERA_HEIGHT, DISTANCE])
    side = 2 * float(np.tan(np.deg2rad(FIELD / 2)))
    return View(
        rotation=turn,
        shift=-turn @ position,
        center=np.zeros(2),
        side=side,
        pitch=PITCH,
        distance=DISTANCE,
    )


def _takes(
    world: World,
    rows: Rows,
    posed: Posed,
    heading: Float[ndarray, " frames"],
    paths: Float[ndarray, "frames 3"],
    view: View,
) -> list[Take]:
    """One stage for all frames; bodies are moved along the path, in place."""
    clip, scene_id = int(rows.clip[0]), int(rows.scene[0])
    setting = world.setting(scene_id)
    back = rotation("y", -heading)
    shift = np.einsum("nxy,ny->nx", back, paths)
    posed.vertices.add_(torch.from_numpy(shift).to(posed.vertices)[:, None])
    stage = np.einsum("nxy,nvy->nvx", rotation("y", heading), posed.vertices.double().numpy())
    planes, coats = wall_planes(setting.scene, stage.reshape(-1, 3), view.position)
    shot = world.shot(clip, scene_id)
    return [
        Take(
            scene=setting.scene,
            setting=setting,
            shot=shot,
            heading=float(turn),
            view=view,
            boxes=[],
            planes=planes,
            coats=coats,
        )
        for turn in heading
    ]


def _pictures(
    world: World, posed: Posed, takes: list[Take]
) -> Iterator[UInt8[ndarray, "batch height width 3"]]:
    for at in range(0, len(takes), CHUNK):
        part = slice(at, at + CHUNK)
        few = replace(
            posed,
            vertices=posed.vertices[part],
            rotmat=posed.rotmat[part],
            betas=posed.betas[part],
            rise=posed.rise[part],
            mirrored=posed.mirrored[part],
            surfaces=posed.surfaces[part],
        )
        with torch.no_grad():
            shown = render_scene(scene_batch(world, few, takes[part])).images
        for row, image in enumerate(shown.permute(0, 2, 3, 1).cpu().numpy()):
            rng = world.recipe.generator("sensor", at + row)
            setting = takes[at + row].setting
            assert setting is not None
            yield develop(image, setting, rng)[None]
