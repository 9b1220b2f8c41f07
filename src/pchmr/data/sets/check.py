"""Looks at an imported set as a sceptic would: counts, ranges, projection, sides, units, twins.

It measures and judges by stated limits; what a set cannot tell is left out. Crops are hashed
against the manifest here, which opening a folder does not do.
"""

import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from pchmr.body.joints import EVALUATION_14
from pchmr.data.sets import DATASETS
from pchmr.data.sets.draft import IMAGES
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.synthetic.check import draw_skeleton
from pchmr.door import Json

Measured = Json
SHEET, TILE, ACROSS = 40, 128, 8
USUAL_THIGH = (0.25, 0.65)
"""Metres between the joints of a hip and a knee, from children to tall adults."""
WIDEST_BETA, LONGEST_TURN, FARTHEST = 6.0, 2 * np.pi + 1e-3, 100.0
MOST_REPROJECTION = 0.1
"""Of the crop's side: a median above it means another camera, body or order of joints."""


def check_set(people: ImportedPeople) -> tuple[Measured, dict[str, bytes]]:
    """Figures of a set, whose `summary` says what is wrong, and its contact sheets as PNG."""
    found: Measured = {
        "about": dict(people.about),
        "counts": _counts(people),
        "left_out": people.manifest["left_out"],
        "ranges": _ranges(people),
        "reprojection_px": _spread(people.detail("reprojection_px")),
        "own_joints_mm": _spread(people.detail("own_joints_mm")),
        "sides": _sides(people),
        "thigh_metres": _spread(_limb(people, "hip", "knee")),
        "duplicates": _duplicates(people),
        "in_several_splits": _in_several_splits(people),
        "crops_are_whole": _sha256(people.folder / IMAGES) == people.manifest["files"][IMAGES],
    }
    faults = _faults(found, people)
    found["summary"] = {
        "counts": ", ".join(f"{n} {name}" for name, n in people.manifest["counts"].items()),
        "reprojection": found["reprojection_px"] or "the set has no 2D joints to compare",
        "own joints": found["own_joints_mm"] or "the set has no 3D joints to compare",
        "faults": "; ".join(faults) or "none found",
    }
    found["faults"] = faults
    sheets = {name: _sheet(people, overlay=name == "overlay") for name in ("sheet", "overlay")}
    return found, sheets


def _counts(people: ImportedPeople) -> Measured:
    """What was found against what was published; rows only where they were sampled so."""
    found = people.manifest["counts"]
    published = DATASETS[people.about["set"]].published
    if (people.manifest["key"]["every"] or 1) > 1:
        published = {name: n for name, n in published.items() if not name.startswith("rows")}
    return {
        name: {"found": found.get(name, 0), "published": published.get(name)}
        for name in dict.fromkeys((*found, *published))
    }


def _spread(values: np.ndarray) -> Measured:
    """Median and 99th percentile of what is known; empty where nothing is."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    middle, high = np.quantile(known, (0.5, 0.99))
    return {"median": round(float(middle), 4), "p99": round(float(high), 4), "rows": len(known)}


def _ranges(people: ImportedPeople) -> Measured:
    """Smallest and largest value of every label of rows that have it."""
    has_smpl = people.detail("has_smpl") > 0
    found = {}
    for name in ("global_orient", "body_pose", "betas", "transl"):
        values = people.detail(name)[has_smpl]
        found[name] = [float(values.min()), float(values.max())] if len(values) else []
    side = people.detail("square")[:, 2]
    return {**found, "square_px": [float(side.min()), float(side.max())]}


def _limb(people: ImportedPeople, start: str, end: str) -> np.ndarray:
    """Length of a limb, mean of both sides, metres; NaN where joints are not known."""
    joints = people.detail("joints")
    sides = []
    for side in ("left", "right"):
        pair = EVALUATION_14.indices((f"{side}_{start}", f"{side}_{end}"))
        first, second = (joints[:, k] for k in pair)
        known = (first[:, 3] > 0) & (second[:, 3] > 0)
        length = np.linalg.norm(first[:, :3] - second[:, :3], axis=1)
        sides.append(np.where(known, length, np.nan))
    return np.mean(sides, axis=0)


def _sides(people: ImportedPeople) -> Measured:
    """Whether left and right agree between 3D and 2D labels: the same hip must lie further right.

    Rows seen from the side, with hips less than a twentieth of the crop apart, say nothing.
    """
    left, right = EVALUATION_14.indices(("left_hip", "right_hip"))
    seen, joints = people.detail("keypoints_2d"), people.detail("joints")
    across = seen[:, left] - seen[:, right]
    in_space = joints[:, left] - joints[:, right]
    known = (seen[:, [left, right], 2] > 0).all(axis=1) & (np.abs(across[:, 0]) > 0.1)
    known &= (joints[:, [left, right], 3] > 0).all(axis=1)
    agree = np.sign(across[known, 0]) == np.sign(in_space[known, 0])
    share = round(float(agree.mean()), 4) if known.any() else None
    return {"rows": int(known.sum()), "share_that_agrees": share}


def _duplicates(people: ImportedPeople) -> Measured:
    """Crops that are stored twice, byte for byte, and whether splits share them."""
    digests: dict[bytes, list[int]] = {}
    for row in range(len(people)):
        digest = hashlib.blake2b(people.jpeg(row), digest_size=16).digest()
        digests.setdefault(digest, []).append(row)
    twins = [rows for rows in digests.values() if len(rows) > 1]
    split = people.columns["split"]
    between = sum(len(set(split[rows])) > 1 for rows in twins)
    return {"same_crop": sum(len(rows) - 1 for rows in twins), "between_splits": between}


def _in_several_splits(people: ImportedPeople) -> Measured:
    """People and scenes by name that stand in more than one split."""
    found = {}
    for name in ("subject", "scene"):
        pairs = set(
            zip(people.columns[name].tolist(), people.columns["split"].tolist(), strict=True)
        )
        times = Counter(value for value, _ in pairs if value)
        found[name] = sorted(value for value, count in times.items() if count > 1)[:20]
    return found


def _faults(found: Measured, people: ImportedPeople) -> list[str]:
    """What a person should look into before trusting the set."""
    said = []
    for name, pair in found["counts"].items():
        if pair["published"] is not None and pair["published"] != pair["found"]:
            said.append(f"{pair['found']} {name}, {pair['published']} were published")
    if not found["crops_are_whole"]:
        said.append("crops are not those that were imported")
    said += _out_of_range(found["ranges"])
    off, side = found["reprojection_px"], float(np.median(people.detail("square")[:, 2]))
    if off and off["median"] > MOST_REPROJECTION * side:
        said.append(
            f"joints project {off['median']:.0f} px off the set's own: wrong body or camera"
        )
    share = found["sides"]["share_that_agrees"]
    if share is not None and share < 0.9:
        said.append(f"left and right disagree between 2D and 3D in {1 - share:.0%} of rows")
    thigh = found["thigh_metres"]
    if thigh and not USUAL_THIGH[0] <= thigh["median"] <= USUAL_THIGH[1]:
        said.append(f"a thigh is {thigh['median']:g} m long: labels are not in metres")
    if DATASETS[people.about["set"]].knows_people and found["in_several_splits"]["subject"]:
        named = ", ".join(found["in_several_splits"]["subject"][:3])
        said.append(f"people stand in several splits: {named}")
    if found["duplicates"]["between_splits"]:
        said.append(f"{found['duplicates']['between_splits']} crops stand in several splits")
    return said


def _out_of_range(ranges: Measured) -> list[str]:
    limits = {"betas": WIDEST_BETA, "global_orient": LONGEST_TURN, "transl": FARTHEST}
    return [
        f"{name} reaches {max(map(abs, ranges[name])):.3g}, more than {limit:.3g}"
        for name, limit in limits.items()
        if ranges[name] and max(map(abs, ranges[name])) > limit
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sheet(people: ImportedPeople, *, overlay: bool) -> bytes:
    """Crops from all over the set; the overlay draws left limbs green and right ones red."""
    rows = np.unique(np.linspace(0, len(people) - 1, SHEET).astype(int)).tolist()
    seen = people.detail("keypoints_2d")
    sheet = Image.new("RGB", (ACROSS * TILE, -(-len(rows) // ACROSS) * TILE))
    for place, row in enumerate(rows):
        picture = Image.fromarray(people.image(row)).resize((TILE, TILE))
        if overlay:
            draw_skeleton(picture, seen[row])
        sheet.paste(picture, (place % ACROSS * TILE, place // ACROSS * TILE))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
