"""A folder of labels as `pchmr annotate` leaves it, made without a fit: people of known pose.

For the tests of the review page, and for what `pchmr bench live` times.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pchmr.annotate.keypoints import LABEL_JOINTS
from pchmr.annotate.labels import LabelFolder
from pchmr.body import BodyModel
from pchmr.body.joints import COCO_23
from pchmr.data.labels import LabelKey
from pchmr.device.desk import SHARED

SIDE, FOCAL = 256, 300.0
ACCEPT_MM, REJECT_MM = 60.0, 150.0


def write_labels(folder: Path, body: BodyModel, count: int) -> LabelFolder:
    """Clips `photo-00` and on, whose predicted errors fall from clip to clip."""
    pictures = folder / "pictures"
    labels = LabelFolder.open(folder / "labels")
    for number in range(count):
        path = pictures / f"photo-{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _picture(path, number)
        arrays = label_arrays(body, number, error=200.0 - 5 * number)
        key: LabelKey = {
            "input_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "body_sha256": body.sha256,
            "accept_mm": ACCEPT_MM,
            "reject_mm": REJECT_MM,
        }
        labels.write(
            path.stem,
            arrays,
            key,
            source=str(path),
            num_frames=1,
            status={"review": 1},
            predicted_error_mm=float(arrays["predicted_error_mm"][0]),
        )
    return labels


def write_long_clip(folder: Path, body: BodyModel, frames: int) -> LabelFolder:
    """One clip of many frames, labeled from keypoints without a picture."""
    one = label_arrays(body, 0, error=200.0)
    arrays = {
        name: value if name in SHARED else np.repeat(value, frames, axis=0)
        for name, value in one.items()
    }
    generator = np.random.default_rng(0)
    arrays["vertices"] += generator.normal(0, 1e-3, (frames, 1, 3)).astype(np.float32)
    labels = LabelFolder.open(folder / "labels")
    key: LabelKey = {"input_sha256": "", "body_sha256": body.sha256}
    about = {"num_frames": frames, "status": {"review": frames}, "source": None}
    labels.write("walk", arrays, key, **about)
    return labels


def _picture(path: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def label_arrays(body: BodyModel, number: int, error: float) -> dict[str, np.ndarray]:
    """One frame of a person a little bent, with keypoints where the body has them."""
    generator = torch.Generator().manual_seed(number)
    pose = 0.15 * torch.randn(1, 23, 3, generator=generator)
    orient = torch.tensor([[np.pi, 0.2 * (number % 3), 0.0]])
    betas, transl = torch.zeros(1, 10), torch.tensor([[0.0, 0.1, 3.2]])
    with torch.no_grad():
        output = body(orient, pose, betas, transl)
        keypoints = body.regress(output.vertices, COCO_23)[0].numpy()
        named = body.regress(output.vertices, COCO_23).numpy()
    joints = np.zeros((1, len(LABEL_JOINTS), 3), np.float32)
    joints[:, : named.shape[1]] = named
    camera = np.array([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1.0]])
    seen = keypoints @ camera.T
    table = np.concatenate([seen[:, :2] / seen[:, 2:], np.full((len(seen), 1), 0.9)], axis=1)
    values = {
        "global_orient": orient.numpy(),
        "body_pose": pose.numpy(),
        "betas": betas.numpy(),
        "transl": transl.numpy(),
        "intrinsics": camera[None],
        "vertices": output.vertices.numpy(),
        "joints": joints,
        "smpl_joints": output.joints.numpy(),
        "joint_std": np.full((1, 3), 0.03),
        "keypoints_2d": table[None],
        "predicted_error_mm": np.array([error]),
    }
    arrays = {name: value.astype(np.float32) for name, value in values.items()}
    arrays["joint_names"] = np.array(LABEL_JOINTS)
    arrays["keypoint_names"] = np.array(COCO_23.names)
    arrays["status"] = np.array(["review"], dtype="U8")
    arrays["reason"] = np.array([f"predicted error {error:.0f} mm is too large"], dtype="U160")
    arrays["doubt"] = np.array([""], dtype="U96")
    arrays["calibrated"] = np.array([True])
    return arrays
