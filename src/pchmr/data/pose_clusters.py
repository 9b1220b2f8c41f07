"""The label `pose`: people grouped by what their limbs do, for data sets that name no action."""

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2

from pchmr.body.joints import EVALUATION_14
from pchmr.config import FederateConfig
from pchmr.data.partition import Rows, make_partition
from pchmr.data.sample import PeopleDataset
from pchmr.seeds import derive_seed

POSE = "pose"
NUM_CLUSTERS = 12
UNKNOWN = -1
BATCH = 64
_RIGHT_HIP, _LEFT_HIP, *_SHOULDERS = EVALUATION_14.indices(
    ("right_hip", "left_hip", "right_shoulder", "left_shoulder")
)


def deal(config: FederateConfig, people: PeopleDataset) -> Rows:
    """The rows of each client; see `make_partition`."""
    return make_partition(config, columns_for(config, people), len(people))


def columns_for(config: FederateConfig, people: PeopleDataset) -> dict[str, np.ndarray]:
    """The columns of a data set, with `pose` made from its joints where the config deals by it."""
    columns = dict(people.columns)
    if config.partition_options.partition_label == POSE:
        generator = np.random.default_rng(derive_seed(config.seed, "pose clusters"))
        columns[POSE] = pose_clusters(_joints(people), NUM_CLUSTERS, generator)
    return columns


def pose_clusters(
    joints: Float[np.ndarray, "people 14 3"], num_clusters: int, rng: np.random.Generator
) -> Int[np.ndarray, " people"]:
    """Groups of like poses, whatever the view: k-means of joints in the frame of the trunk.

    Args:
        joints: Evaluation joints in metres; NaN where they are not known.
        num_clusters: Groups; some may stay empty.
        rng: Draws the first centres (Arthur and Vassilvitskii, k-means++, SODA 2007).

    Returns:
        Group of each person, -1 without joints.
    """
    labels = np.full(len(joints), UNKNOWN, dtype=np.int64)
    known = np.isfinite(joints).all(axis=(1, 2))
    if known.any():
        flat = in_trunk_frame(joints[known]).reshape(known.sum(), -1)
        count = min(num_clusters, len(flat))
        _, labels[known] = kmeans2(flat, count, minit="++", rng=rng, missing="warn")
    return labels


def in_trunk_frame(joints: Float[np.ndarray, "people 14 3"]) -> Float[np.ndarray, "people 14 3"]:
    """Joints about the hips, with axes along the hips, up the trunk, and forward."""
    joints = joints.astype(np.float64)
    hips = joints[:, [_RIGHT_HIP, _LEFT_HIP]].mean(axis=1)
    across = _unit(joints[:, _LEFT_HIP] - joints[:, _RIGHT_HIP])
    trunk = joints[:, _SHOULDERS].mean(axis=1) - hips
    up = _unit(trunk - (trunk * across).sum(axis=-1, keepdims=True) * across)
    axes = np.stack([across, up, np.cross(across, up)], axis=-1)
    return (joints - hips[:, None]) @ axes


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _joints(people: PeopleDataset) -> np.ndarray:
    found = []
    for start in range(0, len(people), BATCH):
        sample = people.batch(np.arange(start, min(start + BATCH, len(people))))
        joints = sample.joints[..., :3].cpu().numpy().astype(np.float64)
        joints[~sample.has_joints.cpu().numpy()] = np.nan
        found.append(joints)
    return np.concatenate(found)
