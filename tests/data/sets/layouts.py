"""Writers of fixtures in the layouts of real data sets, and an independent forward pass.

People walk in a world frame before a camera that moves; the pictures are noise. Everything that
real files vary is varied: people a picture, genders, camera poses that are not valid, frames that
are not good, pictures that are missing, landscape and portrait.
"""

import base64
import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from pchmr.body.joints import EVALUATION_14, H36M_17, METRO_24, SMPL_24, SMPL_PARENTS

FOCAL = 150.0


def skin(arrays: dict, pose: np.ndarray, betas: np.ndarray, transl: np.ndarray) -> tuple:
    """Linear blend skinning in float64 as Loper et al. describe it: vertices and joints."""
    shaped = arrays["v_template"].astype(np.float64) + arrays["shapedirs"] @ betas
    rest = arrays["J_regressor"].astype(np.float64) @ shaped
    turns = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix()
    world = []
    for joint, parent in enumerate(SMPL_PARENTS):
        local = np.eye(4)
        local[:3, :3] = turns[joint]
        local[:3, 3] = rest[joint] - (rest[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    world = np.stack(world)
    joints = world[:, :3, 3].copy()
    world[:, :3, 3] -= (world[:, :3, :3] @ rest[..., None])[..., 0]
    blended = np.einsum("vj,jxy->vxy", arrays["weights"].astype(np.float64), world)
    vertices = (blended[:, :3, :3] @ shaped[..., None])[..., 0] + blended[:, :3, 3]
    return vertices + transl, joints + transl


@dataclass(frozen=True)
class Walk:
    """One person and a camera, frame by frame."""

    pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    extrinsics: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.pose)

    def seen(self, arrays: dict, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and skeleton in the camera's frame, by the independent forward pass."""
        found = skin(arrays, self.pose[frame], self.betas, self.transl[frame])
        view = self.extrinsics[frame]
        return tuple(points @ view[:3, :3].T + view[:3, 3] for points in found)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Of points in the camera's frame."""
        flat = points @ self.intrinsics.T
        return flat[..., :2] / flat[..., 2:]


def walk(count: int, seed: int, *, size: tuple[int, int] = (120, 90), aside: float = 0.0) -> Walk:
    """A person who turns and walks before a camera that sways; `size` is width and height."""
    rng = np.random.default_rng(seed)
    steps = np.arange(count)[:, None]
    pose = 0.15 * rng.standard_normal((1, 72)) + 0.02 * steps * rng.standard_normal((1, 72))
    pose[:, :3] = [[0.0, 0.4 * seed % 3, 0.0]] + 0.05 * steps * np.array([[0, 1, 0]])
    transl = np.array([[aside, 0.1, 0.0]]) + 0.03 * np.minimum(steps, 9) * np.array([[1.0, 0, 0.5]])
    views = np.tile(np.eye(4), (count, 1, 1))
    turn = Rotation.from_euler("x", np.pi) * Rotation.from_euler("y", 0.3 + 0.01 * steps)
    views[:, :3, :3] = turn.as_matrix()
    views[:, :3, 3] = [0.05, 0.0, 3.2]
    width, height = size
    camera = np.array([[FOCAL, 0, width / 2 + 3], [0, FOCAL - 2, height / 2 - 2], [0, 0, 1.0]])
    return Walk(pose, 0.5 * rng.standard_normal(10), transl, views, camera, size)


def picture(size: tuple[int, int], seed: int) -> bytes:
    """Noise as JPEG."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=60)
    return buffer.getvalue()


def write_picture(path: Path, size: tuple[int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(size, seed))


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote at protocol 2: bytes and ASCII text are both its strings."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value) -> None:
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        if len(raw) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
        else:
            self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2(value) -> bytes:
    """A pickle as Python 2 with an old NumPy wrote it."""
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2, fix_imports=True).dump(value)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def write_3dpw(root: Path, bodies: dict, *, count: int = 4) -> dict[str, list[tuple[Walk, str]]]:
    """Three sequences: two people of both genders, one man, one in portrait without genders' case.

    Frame 1 of every sequence has no valid camera; the last picture of the test sequence is missing.
    """
    plans = {
        "train": ("courtyard_talking_00", [("m", 1), ("f", 2)], (120, 90)),
        "validation": ("outdoors_walking_01", [("f", 3)], (90, 120)),
        "test": ("downtown_bar_02", [("m", 4), ("f", 5)], (121, 91)),
    }
    made = {}
    for split, (sequence, people, size) in plans.items():
        walks = [(walk(count, seed, size=size, aside=0.3 * k), gender)
                 for k, (gender, seed) in enumerate(people)]  # fmt: skip
        made[sequence] = walks
        for frame in range(count if split != "test" else count - 1):
            path = root / "imageFiles" / sequence / f"image_{frame:05d}.jpg"
            write_picture(path, size, hash_of(sequence, frame))
        valid = np.ones(count)
        valid[1] = 0
        first = walks[0][0]
        seen = [np.stack([_openpose(w, bodies[g], t) for t in range(count)]) for w, g in walks]
        skeleton = [
            np.stack([skin(bodies[g], w.pose[t], w.betas, w.transl[t])[1].ravel()
                      for t in range(count)]) for w, g in walks
        ]  # fmt: skip
        content = {
            "sequence": sequence,
            "betas": [np.pad(w.betas, (0, 290 * (split == "train"))) for w, _ in walks],
            "poses": [w.pose for w, _ in walks],
            "trans": [w.transl for w, _ in walks],
            "poses_60Hz": [np.repeat(w.pose, 2, axis=0) for w, _ in walks],
            "trans_60Hz": [np.repeat(w.transl, 2, axis=0) for w, _ in walks],
            "betas_clothed": [w.betas for w, _ in walks],
            "v_template_clothed": [bodies[g]["v_template"] for _, g in walks],
            "genders": [g for _, g in walks],
            "texture_maps": [np.zeros((2, 2, 3), np.uint8) for _ in walks],
            "poses2d": seen,
            "jointPositions": skeleton,
            "img_frame_ids": np.arange(count),
            "cam_poses": first.extrinsics,
            "campose_valid": [valid for _ in walks],
            "cam_intrinsics": first.intrinsics,
        }
        file = root / "sequenceFiles" / split / f"{sequence}.pkl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(python2(content))
    return made


def _openpose(person: Walk, arrays: dict, frame: int) -> np.ndarray:
    """2D joints (3, 18) near the true ones; one is not seen."""
    vertices, _ = person.seen(arrays, frame)
    joints = person.pixels(arrays["J_regressor_h36m"].astype(np.float64) @ vertices)
    names = {"right_shoulder": 2, "right_elbow": 3, "right_wrist": 4, "left_shoulder": 5,
             "left_elbow": 6, "left_wrist": 7, "right_hip": 8, "right_knee": 9, "right_ankle": 10,
             "left_hip": 11, "left_knee": 12, "left_ankle": 13}  # fmt: skip
    found = np.zeros((3, 18))
    for name, place in names.items():
        found[:2, place] = joints[H36M_17.index(name)]
        found[2, place] = 0.9
    found[:, 4] = 0
    return found


def hash_of(*words) -> int:
    """A small number that belongs to some words."""
    return sum(ord(letter) * (k + 1) for k, letter in enumerate(str(words))) % 10_000


def write_emdb(root: Path, bodies: dict, *, count: int = 8) -> dict[str, tuple[Walk, str]]:
    """Two sequences: one of EMDB-1 with a bad frame and a bad box, one of EMDB-2."""
    made = {}
    for subject, name, gender, seed in (("P0", "09_outdoor_walk", "female", 7),
                                        ("P3", "30_indoor_dance", "male", 8)):  # fmt: skip
        person = walk(count, seed, size=(90, 120))
        made[f"{subject}/{name}"] = (person, gender)
        good = np.ones(count, dtype=bool)
        good[2] = subject != "P0"
        seen, boxes = [], []
        for frame in range(count):
            write_picture(root / subject / name / "images" / f"{frame:05d}.jpg", (90, 120), frame)
            vertices, joints = person.seen(bodies[gender[0]], frame)
            seen.append(person.pixels(joints))
            flat = person.pixels(vertices)
            boxes.append([*flat.min(axis=0), *flat.max(axis=0)])
        boxes[3] = [0, 0, 0, 0]
        content = {
            "gender": gender, "name": f"{subject}_{name}", "emdb1": subject == "P0",
            "emdb2": np.bool_(subject == "P3"), "n_frames": count, "good_frames_mask": good,
            "camera": {"intrinsics": person.intrinsics, "extrinsics": person.extrinsics,
                       "width": 90, "height": 120},
            "smpl": {"poses_root": person.pose[:, :3], "poses_body": person.pose[:, 3:],
                     "trans": person.transl, "betas": person.betas},
            "kp2d": np.stack(seen),
            "bboxes": {"bboxes": np.array(boxes), "invalid_idxs": np.array([3])},
        }  # fmt: skip
        path = root / subject / name / f"{subject}_{name}_data.pkl"
        path.write_bytes(pickle.dumps(content))
    return made


ACTIONS = {2: "Directions", 8: "Posing"}


def write_h36m(root: Path, arrays: dict, *, frames: tuple[int, ...] = (0, 5, 64, 65)) -> dict:
    """Subjects 1, 5 and 9 in two cameras; S1 has SMPL fits, one frame of it without."""
    made = {}
    for subject in (1, 5, 9):
        images, annotations, joints, fits = [], [], {}, {}
        cameras = {}
        for camera in (1, 4):
            person = walk(max(frames) + 1, subject + camera, size=(120, 118))
            view = person.extrinsics[0]
            cameras[str(camera)] = {
                "R": view[:3, :3].tolist(), "t": (1000 * view[:3, 3]).tolist(),
                "f": np.diag(person.intrinsics)[:2].tolist(),
                "c": person.intrinsics[:2, 2].tolist(),
            }  # fmt: skip
        action = 2 if subject != 9 else 8
        person = walk(max(frames) + 1, subject, size=(120, 118))
        for frame in frames:
            vertices, _ = skin(arrays, person.pose[frame], person.betas, person.transl[frame])
            world = arrays["J_regressor_h36m"].astype(np.float64) @ vertices
            joints.setdefault(str(action), {}).setdefault("1", {})[str(frame)] = (
                1000 * world
            ).tolist()
            if subject == 1 and frame != 5:
                fits.setdefault(str(action), {}).setdefault("1", {})[str(frame)] = {
                    "pose": person.pose[frame].tolist(), "shape": person.betas.tolist(),
                    "trans": [person.transl[frame].tolist()],
                }  # fmt: skip
            for camera in (1, 4):
                folder = f"s_{subject:02d}_act_{action:02d}_subact_01_ca_{camera:02d}"
                name = f"{folder}/{folder}_{frame + 1:06d}.jpg"
                write_picture(root / "images" / name, (120, 118), hash_of(name))
                view, inner = cameras[str(camera)], person.intrinsics
                cam = vertices @ np.array(view["R"]).T + np.array(view["t"]) / 1000
                flat = person.pixels(cam)
                low, high = flat.min(axis=0), flat.max(axis=0)
                images.append({
                    "id": len(images), "file_name": name, "width": 120, "height": 118,
                    "subject": subject, "action_name": ACTIONS[action], "action_idx": action,
                    "subaction_idx": 1, "cam_idx": camera, "frame_idx": frame,
                })  # fmt: skip
                annotations.append({"id": len(annotations), "image_id": images[-1]["id"],
                                    "bbox": [*low.tolist(), *(high - low).tolist()]})  # fmt: skip
                made[name] = (world @ np.array(view["R"]).T + np.array(view["t"]) / 1000, inner)
        tables = {
            "data": {"images": images, "annotations": annotations}, "camera": cameras,
            "joint_3d": joints, "smpl_param": fits,
        }  # fmt: skip
        for kind, table in tables.items():
            path = root / "annotations" / f"Human36M_subject{subject}_{kind}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(table))
    return made


def metro_label(person: Walk, arrays: dict, frame: int) -> dict:
    """A label as METRO writes it: 24 joints with confidences, centre and scale."""
    vertices, _ = person.seen(arrays, frame)
    h36m = arrays["J_regressor_h36m"].astype(np.float64) @ vertices
    joints, seen = np.zeros((24, 4)), np.zeros((24, 3))
    for name in EVALUATION_14.names:
        place = METRO_24.index("head" if name == "head_top" else name)
        joints[place] = [*h36m[H36M_17.index(name)], 1]
        seen[place] = [*person.pixels(h36m[H36M_17.index(name)]), 1]
    flat = person.pixels(vertices)
    low, high = flat.min(axis=0), flat.max(axis=0)
    view = Rotation.from_matrix(person.extrinsics[frame, :3, :3])
    pose = person.pose[frame].copy()
    pose[:3] = (view * Rotation.from_rotvec(pose[:3])).as_rotvec()
    return {
        "center": ((low + high) / 2).tolist(), "scale": 1.2 * float((high - low).max()) / 200,
        "2d_joints": [seen.tolist()], "has_2d_joints": 1, "3d_joints": [joints.tolist()],
        "has_3d_joints": 1, "pose": pose.tolist(), "betas": person.betas.tolist(), "has_smpl": 1,
    }  # fmt: skip


def write_tsv(root: Path, arrays: dict, *, count: int = 3) -> list[tuple[Walk, int]]:
    """`train.yaml` strings two tables together; `test.yaml` is single, its index counts letters."""
    root.mkdir(parents=True, exist_ok=True)
    made = []
    for name, seed in (("a", 11), ("b", 12), ("test", 13)):
        person = walk(count, seed, size=(100, 120))
        lines = {"img": [], "label": [], "hw": []}
        for frame in range(count):
            key = f"scène_{name}/image_{frame:05d}.jpg"
            label = metro_label(person, arrays, frame)
            if frame == 1:
                label |= {"has_smpl": 0, "pose": [0] * 72, "betas": [0] * 10, "gender": "f"}
            made.append((person, frame))
            raw = base64.b64encode(picture(person.size, frame)).decode()
            lines["img"].append(f"{key}\t{raw}")
            lines["label"].append(f"{key}\t{json.dumps([label])}")
            lines["hw"].append(f'{key}\t[{{"height": 120, "width": 100}}]')
        for kind, rows in lines.items():
            write_lines(root / f"{name}.{kind}.tsv", rows, in_letters=name == "test")
    write_lines(root / "test.linelist.tsv", [str(k) for k in range(count)])
    order = [f"{k}\t{row}" for row in range(count) for k in range(2)]
    write_lines(root / "train.linelist.tsv", order)
    (root / "test.yaml").write_text(
        "img: test.img.tsv\nlabel: test.label.tsv\nhw: test.hw.tsv\nlinelist: test.linelist.tsv\n"
    )
    (root / "train.yaml").write_text(
        "composite: true\nimg:\n- a.img.tsv\n- b.img.tsv\nlabel: [a.label.tsv, b.label.tsv]\n"
        "hw:\n  - a.hw.tsv\n  - b.hw.tsv\nlinelist: train.linelist.tsv  # table and row\n"
    )
    return made


def write_lines(path: Path, rows: list[str], *, in_letters: bool = False) -> None:
    """A TSV and its index, in bytes or, as some writers do, in letters."""
    at, index = 0, []
    for row in rows:
        index.append(at)
        at += len(row if in_letters else row.encode()) + 1
    path.write_bytes("".join(f"{row}\n" for row in rows).encode())
    path.with_suffix(".lineidx").write_text("".join(f"{place}\n" for place in index))


def write_npz(root: Path, arrays: dict, *, kind: str = "bedlam", count: int = 5) -> Walk:
    """An archive beside pictures, as BEDLAM or as SPIN writes it; one picture is missing."""
    person = walk(count, 21, size=(140, 100))
    names = [f"{kind}_scene{k % 3}/img_{k:03d}.jpg" for k in range(count)]
    for frame, name in enumerate(names[:-1]):
        write_picture(root / name, person.size, frame)
    labels = [metro_label(person, arrays, frame) for frame in range(count)]
    stack = {key: np.array([label[key] for label in labels]) for key in ("center", "scale")}
    pose = np.array([label["pose"] for label in labels])
    shape = np.tile(person.betas, (count, 1))
    own = {"imgname": np.array(names, dtype=object if kind == "objects" else "S"), **stack}
    if kind == "bedlam":
        rest = arrays["J_regressor"] @ (arrays["v_template"] + arrays["shapedirs"] @ person.betas)
        view = person.extrinsics
        transl = (view[:, :3, :3] @ (rest[0] + person.transl)[..., None])[..., 0] - rest[0]
        outer = np.tile(np.eye(4), (count, 1, 1))
        outer[:, :3, 3] = view[:, :3, 3]
        own |= {
            "pose_cam": pose, "shape": np.pad(shape, ((0, 0), (0, 1))),
            "trans_cam": transl, "cam_ext": outer,
            "cam_int": np.tile(person.intrinsics, (count, 1, 1)),
            "gender": np.array((["female", "male", "neutral", "female", "male"] * count)[:count]),
        }  # fmt: skip
    else:
        own |= {
            "part": np.array([label["2d_joints"][0] for label in labels]),
            "S": np.array([label["3d_joints"][0] for label in labels]),
            "pose": pose, "shape": shape,
        }  # fmt: skip
    np.savez(root / f"{kind}.npz", **own)
    return person


def write_truth(root: Path, arrays: dict, *, count: int = 5) -> Walk:
    """Photos with `truth.npz` beside them."""
    person = walk(count, 31, size=(100, 140))
    for frame in range(count):
        write_picture(root / f"photo {frame}.jpg", person.size, frame)
    rest = arrays["J_regressor"] @ (arrays["v_template"] + arrays["shapedirs"] @ person.betas)
    view = person.extrinsics
    turned = Rotation.from_matrix(view[:, :3, :3]) * Rotation.from_rotvec(person.pose[:, :3])
    moved = (view[:, :3, :3] @ (rest[0] + person.transl)[..., None])[..., 0] + view[:, :3, 3]
    np.savez(
        root / "truth.npz", image=np.array([f"photo {frame}.jpg" for frame in range(count)]),
        global_orient=turned.as_rotvec(), body_pose=person.pose[:, 3:].reshape(count, 23, 3),
        betas=np.tile(person.betas, (count, 1)), transl=moved - rest[0],
        intrinsics=np.tile(person.intrinsics, (count, 1, 1)),
        scene=np.array([f"room {frame}" for frame in range(count)]),
    )  # fmt: skip
    return person


__all__ = ["SMPL_24", "Walk", "skin", "walk"]
