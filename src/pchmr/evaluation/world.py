"""Scores of clips in the world (EMDB-2): MRPE, W-MPJPE, WA-MPJPE, RTE, jitter, foot sliding.

A prediction stands where its weak camera puts it and is carried into the world by the data set's
own camera trajectory, which every score names: nothing here estimates how a camera moved.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24
from pchmr.config import SettingError
from pchmr.data.sample import PeopleDataset, Sample, mesh_of
from pchmr.metrics import (
    MM_PER_METRE,
    Mean,
    foot_sliding,
    jitter,
    mrpe,
    root_error,
    world_mpjpe,
)

CAMERA = "the data set's own"
"""Trajectory of the camera that carries predictions into the world."""
FRAMES_PER_SECOND = 30.0
BATCH_SIZE = 64
FEET = SMPL_24.indices(("left_foot", "right_foot"))


@torch.no_grad()
def world_scores(
    model: nn.Module, body: BodyModel, people: PeopleDataset
) -> dict[str, str | float]:
    """Scores of every clip, averaged over frames; a clip of fewer than four frames is left out.

    Raises:
        SettingError: The people come without a camera trajectory.
    """
    extrinsics = _extrinsics(people)
    means: dict[str, Mean] = {}
    clips = people.columns["clip"]
    for clip in np.unique(clips):
        rows = np.flatnonzero(clips == clip)
        rows = rows[np.argsort(people.columns["frame"][rows], kind="stable")]
        if len(rows) < 4:
            continue
        view = torch.from_numpy(extrinsics[rows]).double()
        predicted, truth = _in_world(model, body, people, rows, view)
        for name, value in _of_clip(predicted, truth).items():
            means[name] = means.get(name, Mean()).merge(Mean(value * len(rows), len(rows)))
    return {"camera": CAMERA, **{name: mean.value for name, mean in means.items()}}


def _extrinsics(people: PeopleDataset) -> Float[np.ndarray, "rows 3 4"]:
    try:
        found = people.detail("extrinsics")  # type: ignore[attr-defined]
    except AttributeError:
        found = np.full((len(people), 3, 4), np.nan)
    if not np.isfinite(found).all():
        raise SettingError("scores in the world need people with a camera trajectory, as EMDB has")
    return found


def _in_world(
    model: nn.Module, body: BodyModel, people: PeopleDataset, rows: np.ndarray, view: Tensor
) -> tuple[Float[Tensor, "frames 24 3"], Float[Tensor, "frames 24 3"]]:
    """Joints of predictions and truth in the world frame, metres."""
    training, found = model.training, []
    model.eval()
    for start in range(0, len(rows), BATCH_SIZE):
        sample = people.batch(rows[start : start + BATCH_SIZE]).to(body.v_template.device)
        output = model(sample.images)
        stands = standing(output.camera.float(), sample)
        predicted = body.regress(output.vertices.float(), SMPL_24) + stands[:, None]
        true = body.regress(mesh_of(sample, body), SMPL_24)
        found.append(torch.stack([predicted, true], dim=1).double().cpu())
    model.train(training)
    joints = torch.cat(found)
    world = (joints - view[:, None, None, :, 3]) @ view[:, None, :, :3]
    return world[:, 0], world[:, 1]


def standing(camera: Float[Tensor, "batch 3"], sample: Sample) -> Float[Tensor, "batch 3"]:
    """Where a weak camera (s, tx, ty) of a crop puts a body, metres in the camera's frame.

    The depth is that at which the crop's focal length gives the scale s.
    """
    scale, shift = camera[:, :1], camera[:, 1:]
    side = sample.images.shape[-1]
    middle = 2 * sample.intrinsics[:, :2, 2] / side - 1
    depth = 2 * sample.intrinsics[:, 0, :1] / (scale.clamp_min(1e-3) * side)
    return torch.cat([shift - middle / scale.clamp_min(1e-3), depth], dim=-1)


def _of_clip(
    predicted: Float[Tensor, "frames 24 3"], truth: Float[Tensor, "frames 24 3"]
) -> Mapping[str, float]:
    root = SMPL_24.root[0]
    feet = list(FEET)
    off = mrpe(predicted[:, root], truth[:, root]).mean()
    return {
        "mrpe_mm": float(off) * MM_PER_METRE,
        "w_mpjpe_mm": world_mpjpe(predicted, truth, first_frames=2),
        "wa_mpjpe_mm": world_mpjpe(predicted, truth),
        "rte_percent": root_error(predicted[:, root], truth[:, root]),
        "jitter_m_s3": jitter(predicted, FRAMES_PER_SECOND),
        "foot_sliding_mm": foot_sliding(predicted[:, feet], truth[:, feet]),
    }


def is_in_world(protocol: str) -> bool:
    """Whether a protocol asks for these scores."""
    return protocol == "emdb2"
