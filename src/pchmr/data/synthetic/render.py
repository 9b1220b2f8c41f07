"""Rows of a world -> pictures and labels, a batch at a time, on any device.

Labels are the naked body's in the camera frame: skinning them gives the undressed vertices that
were rendered, to floating-point accuracy.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pchmr.body.joints import EVALUATION_14
from pchmr.data.synthetic.activities import ACTIVITIES
from pchmr.data.synthetic.garments import Dress
from pchmr.data.synthetic.poses import rotation
from pchmr.data.synthetic.recipe import FRAMES_PER_SECOND, Rows
from pchmr.data.synthetic.scenes import Coat, Scene, Shot
from pchmr.data.synthetic.sensor import develop, expose
from pchmr.data.synthetic.settings import Setting, muted_coat, surroundings_of
from pchmr.data.synthetic.shading import RenderedBatch, SceneBatch, box_corners, render_scene
from pchmr.data.synthetic.staging import (
    NUM_BOXES,
    NUM_PLANES,
    Box,
    View,
    furniture_box,
    inside,
    occluder_box,
    seat_boxes,
    step_box,
    turned,
    view_of,
    wall_planes,
)
from pchmr.data.synthetic.subjects import Surface
from pchmr.data.synthetic.tailor import layers_of
from pchmr.data.synthetic.world import Posed, World
from pchmr.geometry import rotmat_to_rotvec

SUPERSAMPLE = 2


@dataclass(frozen=True, kw_only=True)
class Take:
    """One row on its stage."""

    scene: Scene
    setting: Setting | None
    shot: Shot
    heading: float
    view: View
    boxes: list[Box]
    planes: Float[np.ndarray, "planes 4"]
    coats: list[Coat]

    @property
    def turn(self) -> Float[np.ndarray, "3 3"]:
        """From the person's own frame to the camera."""
        return self.view.rotation @ rotation("y", np.array(self.heading))


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """Pictures and labels of rows.

    Attributes:
        images: 8-bit RGB.
        labels: Arrays with one entry a row, see `label_rows`.
        person_mask: Pixels that show the person.
    """

    images: UInt8[np.ndarray, "batch height width 3"]
    labels: dict[str, np.ndarray]
    person_mask: np.ndarray


def render_rows(world: World, rows: Rows, device: torch.device | str = "cpu") -> Rendered:
    """Pictures and labels of the rows; the same rows give the same labels in any batch."""
    posed = world.pose(rows, device)
    takes = [_take(world, rows, posed, i) for i in range(len(rows))]
    batch = scene_batch(world, posed, takes)
    with torch.no_grad():
        shown = render_scene(batch)
    labels = label_rows(world, rows, posed, takes)
    labels["visible"] = shown.visible_fraction.cpu().numpy()
    mask = shown.person_mask.cpu().numpy()
    labels["area"] = mask.mean(axis=(1, 2))
    return Rendered(images=_exposed(world, rows, takes, shown), labels=labels, person_mask=mask)


def _take(world: World, rows: Rows, posed: Posed, row: int) -> Take:
    clip, scene_id = int(rows.clip[row]), int(rows.scene[row])
    shot = world.shot(clip, scene_id)
    setting = world.setting(scene_id) if world.recipe.version > 1 else None
    scene = setting.scene if setting else world.scene(scene_id)
    frame = int(rows.frame[row])
    motion = world.motion(clip, str(rows.action[row]))
    seconds = frame / FRAMES_PER_SECOND
    swing = np.sin(2 * np.pi * (motion.frequency[0, 0] * seconds + motion.start[1, 0]))
    heading = shot.heading + shot.turn_rate * seconds + shot.sway * float(swing)
    own = posed.vertices[row].cpu().double().numpy()
    vertices = own @ rotation("y", np.array(heading)).T
    rng = world.recipe.generator("frame", clip, frame)
    view = view_of(vertices, shot, rng, world.spec.truncation)
    planes, coats = wall_planes(scene, vertices, view.position)
    boxes = [turned(box, heading) for box in _props(world, str(rows.action[row]), own, shot)]
    hiding = [o for o in shot.occluders if setting is None or o.top < 1]
    boxes += [occluder_box(o, view, float(vertices[:, 1].max())) for o in hiding]
    if setting:
        boxes = [replace(box, coat=muted_coat(box.coat)) for box in boxes]
    stood = [furniture_box(item) for item in scene.furniture]
    boxes += [box for box in stood if inside(box, planes, vertices)]
    return Take(
        scene=scene,
        setting=setting,
        shot=shot,
        heading=heading,
        view=view,
        boxes=boxes[:NUM_BOXES],
        planes=planes,
        coats=coats,
    )


def _props(world: World, action: str, vertices: np.ndarray, shot: Shot) -> list[Box]:
    kind = ACTIVITIES[action].prop
    if kind == "seat":
        return seat_boxes(vertices, world.hips, world.shins, shot)
    if kind == "step":
        box = step_box(vertices, world.feet, shot)
        return [] if box is None else [box]
    return []


def scene_batch(world: World, posed: Posed, takes: list[Take]) -> SceneBatch:
    """The renderer's input for posed people on their stages."""
    device, size = posed.vertices.device, world.recipe.image_size
    views = [take.view for take in takes]
    turns = np.stack([take.turn for take in takes])
    shift = np.stack([view.shift for view in views])
    scenes = [take.scene for take in takes]
    values = {
        **_surface_values(posed),
        "pattern_coords": world.wardrobe.template,
        "sky_color": np.stack([s.sky for s in scenes]),
        "far": np.array([s.far for s in scenes]),
        "intrinsics": np.stack([view.intrinsics(size) for view in views]),
        "rotation": np.stack([view.rotation for view in views]),
        "position": np.stack([view.position for view in views]),
        "light_direction": np.stack([s.light_direction for s in scenes]),
        "light_color": np.stack([s.light_color for s in scenes]),
        "ambient_above": np.stack([s.ambient_above for s in scenes]),
        "ambient_below": np.stack([s.ambient_below for s in scenes]),
        **_box_values(takes),
        **_plane_values(takes),
    }
    tensors: dict[str, Any] = {name: _tensor(v, device) for name, v in values.items()}
    moved = posed.vertices @ _tensor(turns, device).mT + _tensor(shift, device)[:, None]
    batch = SceneBatch(
        vertices=moved,
        faces=world.body.faces.to(device),
        height=size,
        width=size,
        supersample=SUPERSAMPLE,
        **tensors,
    )
    settings = [take.setting for take in takes if take.setting]
    return _in_world_two(batch, world, posed, settings) if settings else batch


def _surface_values(posed: Posed) -> dict[str, np.ndarray]:
    """What vertices look like in world 1; world 2 has layers in their place."""
    surfaces = [s for s in posed.surfaces if isinstance(s, Surface)]
    if surfaces:
        names = ("colors", "pattern_kind", "pattern_scale", "pattern_color")
        return {name: np.stack([getattr(s, name) for s in surfaces]) for name in names}
    shape = posed.vertices.shape[:2]
    return {
        "colors": np.zeros((*shape, 3)),
        "pattern_kind": np.zeros(shape, dtype=np.int64),
        "pattern_scale": np.ones(shape),
        "pattern_color": np.zeros((*shape, 3)),
    }


def _in_world_two(
    batch: SceneBatch, world: World, posed: Posed, settings: list[Setting]
) -> SceneBatch:
    """The same people with places, light and clothes of world 2."""
    device = posed.vertices.device
    dresses = [dress for dress in posed.surfaces if isinstance(dress, Dress)]
    return replace(
        batch,
        surroundings=surroundings_of(settings).to(device),
        layers=layers_of(world.tailor, dresses).to(device),
        light_direction=_tensor(np.stack([s.light_direction for s in settings]), device),
        light_color=_tensor(np.stack([s.light_color for s in settings]), device),
    )


def _tensor(value: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(value)).to(device)
    return tensor.float() if tensor.is_floating_point() else tensor


def _box_values(takes: list[Take]) -> dict[str, np.ndarray]:
    count = len(takes)
    corners = np.zeros((count, NUM_BOXES, 8, 3))
    active = np.zeros((count, NUM_BOXES), dtype=bool)
    coats = [[_BLANK] * NUM_BOXES for _ in range(count)]
    for row, take in enumerate(takes):
        view = take.view
        for slot, box in enumerate(take.boxes):
            center = view.rotation @ box.center + view.shift
            args = (center, box.size, view.rotation @ box.axes)
            corners[row, slot] = box_corners(*(torch.from_numpy(a) for a in args)).numpy()
            active[row, slot], coats[row][slot] = True, box.coat
    return {"boxes": corners, "box_active": active, **_coat_values("box", coats)}


def _plane_values(takes: list[Take]) -> dict[str, np.ndarray]:
    count = len(takes)
    planes = np.tile(np.array([0.0, 1.0, 0.0, 0.0]), (count, NUM_PLANES, 1))
    active = np.zeros((count, NUM_PLANES), dtype=bool)
    coats = [[_BLANK] * NUM_PLANES for _ in range(count)]
    for row, take in enumerate(takes):
        found = len(take.planes)
        planes[row, :found], active[row, :found] = take.planes, True
        coats[row][:found] = take.coats
    return {"planes": planes, "plane_active": active, **_coat_values("plane", coats)}


_BLANK = Coat(color=np.full(3, 0.5), second=np.full(3, 0.5), kind=0, scale=1.0)


def _coat_values(prefix: str, coats: list[list[Coat]]) -> dict[str, np.ndarray]:
    def stack(name: str) -> np.ndarray:
        return np.array([[getattr(coat, name) for coat in row] for row in coats])

    return {
        f"{prefix}_color": stack("color"),
        f"{prefix}_kind": stack("kind"),
        f"{prefix}_scale": stack("scale"),
        f"{prefix}_pattern_color": stack("second"),
    }


def label_rows(world: World, rows: Rows, posed: Posed, takes: list[Take]) -> dict[str, np.ndarray]:
    """Labels as float32, angles of the view in degrees.

    Keys: global_orient (3), body_pose (23, 3), betas, transl (3), intrinsics (3, 3), keypoints_2d
    (14, 3), joints (14, 4); and for the checks heading, pitch, fov, distance, rise.
    """
    size = world.recipe.image_size
    camera = np.stack([take.turn for take in takes])
    rest = world.points.rest_joints(posed.betas)[:, 0]
    lift = np.stack([np.zeros(len(rows)), posed.rise, np.zeros(len(rows))], axis=-1)
    shift = np.stack([take.view.shift for take in takes])
    moved = np.einsum("nxy,ny->nx", camera, rest + lift) - rest + shift
    rotmat = posed.rotmat.copy()
    rotmat[:, 0] = camera @ rotmat[:, 0]
    pose = rotmat_to_rotvec(torch.from_numpy(rotmat)).float()
    betas, transl = (torch.from_numpy(v).float() for v in (posed.betas, moved))
    with torch.no_grad():
        vertices = world.body(pose[:, 0], pose[:, 1:], betas, transl).vertices
        joints = world.body.regress(vertices, EVALUATION_14).double().numpy()
    intrinsics = np.stack([take.view.intrinsics(size) for take in takes])
    return {
        "global_orient": pose[:, 0].numpy(),
        "body_pose": pose[:, 1:].numpy(),
        "betas": betas.numpy(),
        "transl": transl.numpy(),
        "intrinsics": intrinsics.astype(np.float32),
        **_joint_labels(joints, intrinsics, size),
        "heading": np.array([take.heading for take in takes], dtype=np.float32),
        "pitch": np.array([take.view.pitch for take in takes], dtype=np.float32),
        "fov": np.array([take.shot.camera.fov for take in takes], dtype=np.float32),
        "distance": np.array([take.view.distance for take in takes], dtype=np.float32),
        "rise": posed.rise.astype(np.float32),
    }


def _joint_labels(
    joints: Float[np.ndarray, "batch 14 3"], intrinsics: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """Joints about their root with confidence 1, and keypoints that count within the crop."""
    pixels = np.einsum("nxy,njy->njx", intrinsics, joints)
    keypoints = 2 * pixels[..., :2] / pixels[..., 2:] / size - 1
    seen = (np.abs(keypoints) <= 1).all(axis=-1, keepdims=True)
    root = joints[:, list(EVALUATION_14.root)].mean(axis=1, keepdims=True)
    ones = np.ones_like(joints[..., :1])
    return {
        "keypoints_2d": np.concatenate([keypoints, seen], axis=-1).astype(np.float32),
        "joints": np.concatenate([joints - root, ones], axis=-1).astype(np.float32),
    }


def _exposed(world: World, rows: Rows, takes: list[Take], shown: RenderedBatch) -> np.ndarray:
    images = shown.images.permute(0, 2, 3, 1).cpu().numpy()
    pictures = []
    for row, take in enumerate(takes):
        rng = world.recipe.generator("sensor", int(rows.clip[row]), int(rows.frame[row]))
        scene, setting = take.scene, take.setting
        if setting is None:
            picture = expose(images[row], scene.blur, scene.exposure, scene.gamma, scene.noise, rng)
        else:
            picture = develop(images[row], setting, rng)
        pictures.append(picture)
    return np.stack(pictures)
