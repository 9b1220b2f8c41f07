"""Posed people put on stage: the camera around them, seats under them, boxes before them.

Frames: the stage has y up and its ground at 0; the person's own frame differs from it by the
heading about y. Everything is numpy and one row a time only where rows differ in kind.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pchmr.data.synthetic.poses import rotation
from pchmr.data.synthetic.scenes import Coat, Furniture, Occluder, Scene, Shot

FLIP = np.diag([1.0, -1.0, -1.0])
DISTANCE_RANGE = (1.45, 14.0)
CAMERA_FLOOR, WALL_GAP = 0.3, 0.06
NUM_BOXES, NUM_PLANES = 8, 4


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box on the stage: center, full size along its own axes, those axes as columns."""

    center: Float[np.ndarray, "3"]
    size: Float[np.ndarray, "3"]
    axes: Float[np.ndarray, "3 3"]
    coat: Coat


@dataclass(frozen=True, kw_only=True)
class View:
    """One camera: x_camera = rotation x_stage + shift, and the crop's window on the plane z = 1.

    Attributes:
        rotation: Stage to camera.
        shift: Metres.
        center: Middle of the crop.
        side: Of the crop.
        pitch: Degrees, after the camera was kept above the ground.
        distance: To the middle of the person, metres.
    """

    rotation: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, "3"]
    center: Float[np.ndarray, "2"]
    side: float
    pitch: float
    distance: float

    @property
    def position(self) -> Float[np.ndarray, "3"]:
        """The camera on the stage."""
        return -self.rotation.T @ self.shift

    def intrinsics(self, size: int) -> Float[np.ndarray, "3 3"]:
        """Pinhole camera of the crop in pixels."""
        focal = size / self.side
        x, y = size / 2 - focal * self.center
        return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]])


def view_of(
    vertices: Float[np.ndarray, "vertices 3"],
    shot: Shot,
    rng: np.random.Generator,
    truncation: float,
) -> View:
    """A camera whose distance follows from its field of view and the framing, and a crop."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    middle = (low + high) / 2
    extent = max(high[1] - low[1], np.hypot(high[0] - low[0], high[2] - low[2]) * 0.9)
    slope = np.tan(np.deg2rad(shot.camera.fov / 2))
    distance = float(np.clip(0.5 * extent / (shot.camera.framing * slope), *DISTANCE_RANGE))
    lowest = np.rad2deg(np.arcsin(np.clip((CAMERA_FLOOR - middle[1]) / distance, -1, 1)))
    pitch = max(shot.camera.pitch + float(np.clip(rng.normal(0, 1), -2, 2)), float(lowest))
    turn = rotation("z", np.array(shot.camera.roll)) @ rotation("x", np.array(pitch)) @ FLIP
    aside = np.array(shot.offset) + rng.normal(0, 0.03, 2)
    aside = aside * slope * (1 - shot.camera.framing)
    shift = distance * np.array([aside[0], aside[1], 1.0]) - turn @ middle
    camera = vertices @ turn.T + shift
    window = camera[:, :2] / camera[:, 2:]
    center, side = _crop(window.min(axis=0), window.max(axis=0), rng, truncation)
    return View(
        rotation=turn, shift=shift, center=center, side=side, pitch=pitch, distance=distance
    )


def _crop(
    low: np.ndarray, high: np.ndarray, rng: np.random.Generator, truncation: float
) -> tuple[np.ndarray, float]:
    side = float((high - low).max()) * rng.uniform(1.1, 1.4)
    shift = rng.uniform(-0.08, 0.08, 2)
    cut, closer, further = (
        rng.random() < truncation,
        rng.uniform(0.55, 0.8),
        rng.uniform(-0.2, 0.2, 2),
    )
    if cut:
        side, shift = side * closer, further
    return (low + high) / 2 + shift * side, side


def seat_boxes(
    vertices: Float[np.ndarray, "vertices 3"],
    hips: Bool[np.ndarray, " vertices"],
    shins: Bool[np.ndarray, " vertices"],
    shot: Shot,
) -> list[Box]:
    """A seat under the hips of a sitter, in the person's frame, and at times its back."""
    back = vertices[hips, 2].min() - 0.03
    front = max(min(vertices[shins, 2].min() - 0.02, back + 0.55), back + 0.22)
    under = hips & (vertices[:, 2] < front)
    top = float(vertices[under, 1].min())
    middle = float(vertices[hips, 0].mean())
    boxes = [_upright((middle, (front + back) / 2), (0.48, top, front - back), 0.0, shot.prop)]
    if shot.seat_back:
        height = top + 0.42
        behind = vertices[(vertices[:, 1] < height) & (vertices[:, 1] > top), 2]
        edge = float(min(behind.min(initial=back), back)) - 0.02
        boxes.append(_upright((middle, edge - 0.025), (0.44, height, 0.05), 0.0, shot.prop))
    return boxes


def step_box(
    vertices: Float[np.ndarray, "vertices 3"],
    feet: tuple[np.ndarray, np.ndarray],
    shot: Shot,
) -> Box | None:
    """A step under the higher foot, in the person's frame."""
    soles = [vertices[rows] for rows in feet]
    upper, lower = sorted(soles, key=lambda points: -points[:, 1].min())
    top = float(upper[:, 1].min())
    if top < 0.04:
        return None
    start = max(upper[:, 2].min() - 0.03, min(lower[:, 2].max() + 0.01, upper[:, 2].mean()))
    depth = max(0.34, float(upper[:, 2].max() + 0.05 - start))
    middle = float(upper[:, 0].mean())
    return _upright((middle, start + depth / 2), (0.5, top, depth), 0.0, shot.prop)


def furniture_box(item: Furniture) -> Box:
    """A standing box of a scene."""
    return _upright(item.position, tuple(item.size), item.turn, item.coat)


def occluder_box(item: Occluder, view: View, tall: float) -> Box:
    """A standing box between camera and person that hides the person up to a chosen height."""
    position = view.position
    across = view.center + np.array([item.across * view.side / 2, 0.0])
    ray = view.rotation.T @ np.array([*across, 1.0])
    level = np.hypot(position[0], position[2])
    toward = -position[[0, 2]] / level
    reach = item.depth * level / max(float(ray[[0, 2]] @ toward), 0.2)
    place = position[[0, 2]] + reach * ray[[0, 2]]
    top = max(position[1] + (item.top * tall - position[1]) * item.depth, 0.05)
    width = item.size[0] * view.side * view.distance * item.depth
    facing = np.rad2deg(np.arctan2(toward[0], toward[1])) + item.turn
    return _upright((place[0], place[1]), (width, top, item.size[1]), facing, item.coat)


def turned(box: Box, heading: float) -> Box:
    """A box of the person's frame on the stage."""
    turn = rotation("y", np.array(heading))
    return Box(center=turn @ box.center, size=box.size, axes=turn @ box.axes, coat=box.coat)


def wall_planes(
    scene: Scene, vertices: Float[np.ndarray, "vertices 3"], position: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "planes 4"], list[Coat]]:
    """Ground and walls as planes (n, d); walls step back from the person and from the camera."""
    planes, coats = [np.array([0.0, 1.0, 0.0, 0.0])], [scene.ground]
    for index, (coat, distance) in enumerate(zip(scene.walls, scene.wall_distance, strict=True)):
        if not np.isfinite(distance):
            continue
        angle = np.deg2rad(scene.turn + (0.0, 90.0, -90.0)[index])
        normal = np.array([np.sin(angle), 0.0, np.cos(angle)])
        needed = max(float(-(vertices @ normal).min()) + WALL_GAP, CAMERA_FLOOR - position @ normal)
        planes.append(np.array([*normal, max(distance, needed)]))
        coats.append(coat)
    return np.stack(planes), coats


def inside(box: Box, planes: Float[np.ndarray, "planes 4"], person: np.ndarray) -> bool:
    """Whether furniture stands within the walls and clear of the person."""
    reach = float(np.hypot(box.size[0], box.size[2])) / 2
    walls = planes[1:]
    fits = bool((walls[:, :3] @ box.center + walls[:, 3] > reach).all())
    level = person[:, [0, 2]] - box.center[[0, 2]]
    return fits and bool(np.hypot(level[:, 0], level[:, 1]).min() > reach + 0.05)


def _upright(
    place: tuple[float, float], size: tuple[float, float, float], turn: float, coat: Coat
) -> Box:
    center = np.array([place[0], size[1] / 2, place[1]])
    axes = rotation("y", np.array(turn))
    return Box(center=center, size=np.array(size), axes=axes, coat=coat)
