"""Looks at a rendered set as a sceptic would: labels, contact, limits, balance, duplicates.

`check` measures and draws; it judges nothing, so that a page can show figures beside targets.
"""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14, SMPL_24
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.people import SyntheticPeople
from pchmr.data.synthetic.poses import LIMITS, NOISE, SIDES, SIGN, is_sided, xzy_angles
from pchmr.data.synthetic.render import render_rows
from pchmr.data.synthetic.world import Posed, World
from pchmr.door import Json
from pchmr.geometry import rotvec_to_rotmat

BONES = (
    ("right_ankle", "right_knee"),
    ("right_knee", "right_hip"),
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("right_wrist", "right_elbow"),
    ("right_elbow", "right_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("neck", "head_top"),
    ("right_hip", "left_hip"),
    ("right_shoulder", "left_shoulder"),
)
BONE_COLORS = {"left": (90, 255, 90), "right": (255, 80, 80), "middle": (255, 230, 60)}
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
SAME_POSE_METRES = 0.002


@dataclass(frozen=True)
class Checked:
    """Measured values (JSON-able) and figures (PNG bytes by name)."""

    summary: Json
    figures: dict[str, bytes]


def check(dataset: SyntheticPeople, body: BodyModel, *, num_posed: int = 400) -> Checked:
    """Measures a set and draws its figures; `num_posed` rows are posed again for the contact."""
    world, rows = World(dataset.recipe, body), layout(dataset.recipe)
    part = rows.take(slice(0, min(num_posed, len(rows))))
    posed = world.pose(part)
    sample = dataset.batch(np.arange(min(len(dataset), num_posed)))
    gaps, sink = contact_gaps(world, posed)
    seen = {**dataset.details, "height": statures(dataset, body)}
    summary = {
        "recipe": dataset.recipe.content_hash(),
        "content_hash": dataset.content_hash,
        "num_samples": len(dataset),
        "counts": {n: len(np.unique(dataset.columns[n])) for n in ("subject", "scene", "clip")},
        "actions": _counted(dataset.columns["action"]),
        "distributions": {name: _quantiles(v) for name, v in seen.items()},
        "labels": _label_errors(world, body),
        "contact_cm": {
            "support_gap": _by_action(gaps, part.action),
            "deepest_below_ground": round(100 * float(sink.max()), 3),
        },
        "limits": _limit_excess(posed, sample.body_pose.numpy()),
        "balance": _balance(posed),
        "duplicates": _duplicates(dataset),
    }
    figures = {
        "distributions": _histograms(seen),
        "angles": _angle_ranges(posed),
        "sheet": contact_sheet(dataset, range(min(40, len(dataset))), overlay=False),
        "overlay": contact_sheet(dataset, range(min(40, len(dataset))), overlay=True),
    }
    return Checked(summary, figures)


def statures(dataset: SyntheticPeople, body: BodyModel) -> np.ndarray:
    """Metres (num_subjects,) from sole to crown of every subject in the rest pose."""
    _, first = np.unique(dataset.columns["subject"], return_index=True)
    betas = dataset.batch(first).betas
    count = len(betas)
    rest = (torch.zeros(count, 3), torch.zeros(count, 23, 3), betas, torch.zeros(count, 3))
    height = body(*rest).vertices[..., 1].double().numpy()
    return height.max(axis=1) - height.min(axis=1)


def contact_gaps(world: World, posed: Posed) -> tuple[np.ndarray, np.ndarray]:
    """Metres (N,) by which what should carry a body misses it, and any vertex lies below ground.

    A step or a seat is fitted to the body, so only what rests on the ground is measured; in a
    stride either foot may.
    """
    height = posed.vertices[..., 1].cpu().numpy()
    part = world.wardrobe.part
    feet = np.stack([height[:, rows].min(axis=1) for rows in world.feet], axis=-1)
    shins = [np.isin(part, (f"{side}_knee",)) for side in SIDES]
    knees = np.stack([height[:, rows].min(axis=1, initial=9) for rows in shins], axis=-1)
    swap = posed.mirrored[:, None]
    feet, knees = (np.where(swap, v[:, ::-1], v) for v in (feet, knees))
    stance = posed.stance
    on_ground = stance.planted & (stance.ground == 0) & ~stance.lower[:, None]
    gap = np.where(on_ground, feet, 0).max(axis=1)
    gap = np.maximum(gap, np.where(stance.lower, feet.min(axis=1), 0))
    gap = np.maximum(gap, np.where(stance.knelt, knees, 0).max(axis=1))
    seat = height[:, world.hips].min(axis=1, initial=9)
    gap = np.maximum(gap, np.where(stance.rest_on == "seat", seat, 0))
    return gap, -height.min(axis=1)


def _label_errors(world: World, body: BodyModel, count: int = 48) -> dict[str, float]:
    """Skinning from the labels against what was rendered, and joints against the picture."""
    rows = layout(world.recipe).take(slice(0, count))
    shown = render_rows(world, rows)
    labels = {name: torch.from_numpy(value) for name, value in shown.labels.items()}
    pose = (labels["global_orient"], labels["body_pose"], labels["betas"], labels["transl"])
    naked = body(*pose).vertices.double().numpy()
    focal = shown.labels["intrinsics"].astype(np.float64)
    pixels = np.einsum("nxy,nvy->nvx", focal, naked)
    pixels = pixels[..., :2] / pixels[..., 2:]
    size = world.recipe.image_size
    inside, seen = [], shown.labels["visible"] > 0.98
    keypoints = shown.labels["keypoints_2d"]
    for row in np.flatnonzero(seen):
        at = ((keypoints[row, :, :2] + 1) / 2 * size).astype(int)
        at = at[keypoints[row, :, 2] > 0].clip(0, size - 1)
        inside += shown.person_mask[row][at[:, 1], at[:, 0]].tolist()
    regressed = body.regress(torch.from_numpy(naked).float(), EVALUATION_14).double().numpy()
    regressed -= regressed[:, list(EVALUATION_14.root)].mean(axis=1, keepdims=True)
    error = np.abs(regressed - shown.labels["joints"][..., :3]).max()
    return {
        "joints_from_record_mm": round(1000 * float(error), 4),
        "joints_inside_person": round(float(np.mean(inside)) if inside else 1.0, 4),
        "nearest_vertex_m": round(float(naked[..., 2].min()), 3),
    }


def _limit_excess(posed: Posed, body_pose: np.ndarray) -> dict[str, float]:
    """Degrees by which angles pass their limits: as drawn, and read back from the labels."""
    drawn = max(
        float(np.maximum(low - posed.angles[name], posed.angles[name] - high).max())
        for name, (low, high) in LIMITS.items()
    )
    rotmat = rotvec_to_rotmat(torch.from_numpy(body_pose).double()).numpy()
    worst = 0.0
    for joint, (x_name, z_name, y_name) in READ_BACK.items():
        index = np.array(SMPL_24.indices((f"left_{joint}", f"right_{joint}"))) - 1
        x, z, y = xzy_angles(rotmat[:, index])
        sign = 1 if joint == "knee" else -1
        for name, value in ((x_name, sign * x), (z_name, SIGN * z), (y_name, SIGN * y)):
            low, high = LIMITS.get(name, (0.0, 0.0))
            worst = max(worst, float(np.maximum(low - value, value - high).max()))
    return {"drawn_deg": round(max(drawn, 0.0), 4), "from_labels_deg": round(worst, 4)}


READ_BACK = {
    "hip": ("hip_flexion", "hip_outward", "hip_axial"),
    "knee": ("knee_flexion", "", ""),
    "ankle": ("ankle_up", "ankle_roll", "ankle_turn"),
}
"""Angles about x, z, y of the joints whose limits are read back from labels."""


def _balance(posed: Posed) -> dict[str, float]:
    """Left minus right: means in degrees, and the share of rows that were mirrored."""
    found = {
        f"{name}_deg": round(float((v[:, 0] - v[:, 1]).mean()), 2)
        for name, v in posed.angles.items()
        if is_sided(name) and name in NOISE
    }
    return {"mirrored_share": round(float(posed.mirrored.mean()), 3), **found}


def _duplicates(dataset: SyntheticPeople) -> dict[str, int]:
    """Rows whose picture or whose pose (within 2 mm at every joint) another row has too."""
    pictures: set[bytes] = set()
    joints = []
    for start in range(0, len(dataset), 256):
        sample = dataset.batch(np.arange(start, min(start + 256, len(dataset))))
        pictures |= {hashlib.sha256(image.numpy().tobytes()).digest() for image in sample.images}
        joints.append(sample.joints[..., :3].flatten(start_dim=1).numpy())
    step = np.round(np.concatenate(joints) / SAME_POSE_METRES)
    poses = np.unique(step.astype(np.int64), axis=0)
    return {"pictures": len(dataset) - len(pictures), "poses": len(dataset) - len(poses)}


def _by_action(values: np.ndarray, actions: np.ndarray) -> dict[str, dict[str, float]]:
    found = {}
    for action in np.unique(actions):
        own = 100 * values[actions == action]
        found[str(action)] = {
            "median": round(float(np.median(own)), 2),
            "max": round(float(own.max()), 2),
        }
    return found


def _counted(values: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    found = np.quantile(values.astype(np.float64), QUANTILES)
    return {f"p{round(100 * q)}": round(float(v), 3) for q, v in zip(QUANTILES, found, strict=True)}


def _histograms(seen: dict[str, np.ndarray]) -> bytes:
    details = {name: v for name, v in seen.items() if name != "rise"}
    details["heading"] = (details["heading"] + 180) % 360 - 180
    figure = Figure(figsize=(12, 2.2))
    for axis, (name, values) in zip(figure.subplots(1, len(details)), details.items(), strict=True):
        axis.hist(values, bins=30, color="#4477aa")
        axis.set_title(name, fontsize=9)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
    return _png(figure)


def _angle_ranges(posed: Posed) -> bytes:
    """Drawn angles (median, 5 to 95 %, extremes) inside their limits."""
    figure = Figure(figsize=(7, 8))
    axis = figure.subplots()
    for line, (name, (low, high)) in enumerate(LIMITS.items()):
        values = np.quantile(posed.angles[name], (0, 0.05, 0.5, 0.95, 1))
        axis.plot([low, high], [line, line], color="#dddddd", linewidth=9, solid_capstyle="butt")
        axis.plot(values[[0, 4]], [line, line], color="#88aacc", linewidth=2)
        axis.plot(values[[1, 3]], [line, line], color="#336699", linewidth=5)
        axis.plot(values[2], line, "o", color="#112233", markersize=4)
    axis.set_yticks(range(len(LIMITS)), list(LIMITS), fontsize=7)
    axis.set_xlabel("degrees; gray: limits")
    axis.invert_yaxis()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    return buffer.getvalue()


def contact_sheet(
    dataset: SyntheticPeople, rows: range, *, overlay: bool, columns: int = 8
) -> bytes:
    """Crops side by side as PNG bytes; the overlay draws left limbs green and right ones red."""
    sample, side = dataset.batch(np.array(rows)), max(dataset.image_size, 128)
    sheet = Image.new("RGB", (columns * side, -(-len(rows) // columns) * side))
    for place, row in enumerate(rows):
        picture = Image.fromarray(dataset.image(row)).resize((side, side))
        if overlay:
            draw_skeleton(picture, sample.keypoints_2d[place].numpy())
        sheet.paste(picture, (place % columns * side, place // columns * side))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def draw_skeleton(picture: Image.Image, keypoints: np.ndarray) -> None:
    """Draws the 14 evaluation joints (crop coordinates) onto a picture, in place."""
    pen = ImageDraw.Draw(picture)
    at = (keypoints[:, :2] + 1) / 2 * picture.width
    for start, end in BONES:
        sides = {name.split("_")[0] for name in (start, end)}
        color = BONE_COLORS[sides.pop() if len(sides) == 1 else "middle"]
        ends = [tuple(at[EVALUATION_14.index(name)].tolist()) for name in (start, end)]
        pen.line(ends, fill=color, width=2)
