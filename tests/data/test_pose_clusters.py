"""The label `pose`: the same whatever the view, seeded, and a partition like any other."""

import numpy as np
import roma

from pchmr.config import FederateConfig, PartitionOptions
from pchmr.data.partition import partition_hash
from pchmr.data.pose_clusters import deal, in_trunk_frame, pose_clusters


def people(rng: np.random.Generator, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Three poses with a little noise, and which one each person takes."""
    poses = rng.normal(size=(3, 14, 3))
    which = np.arange(count) % 3
    return poses[which] + 0.02 * rng.normal(size=(count, 14, 3)), which


def test_like_poses_share_a_group_whatever_the_view():
    rng = np.random.default_rng(0)
    joints, which = people(rng)
    turned = joints @ roma.random_rotmat(len(joints)).double().numpy() + rng.normal(size=(60, 1, 3))
    assert np.allclose(in_trunk_frame(turned), in_trunk_frame(joints), atol=1e-5)
    labels = pose_clusters(turned, 3, np.random.default_rng(1))
    assert len({(int(a), int(b)) for a, b in zip(labels, which, strict=True)}) == 3
    assert len(set(labels.tolist())) == 3


def test_groups_are_seeded_and_unknown_joints_stand_apart():
    joints, _ = people(np.random.default_rng(0))
    joints[5] = np.nan
    one, two = (pose_clusters(joints, 4, np.random.default_rng(7)) for _ in range(2))
    assert (one == two).all() and one[5] == -1 and (np.delete(one, 5) >= 0).all()


def test_pose_deals_like_a_column(toy_people):
    options = PartitionOptions(partition_label="pose", alpha=0.05, equal_sizes=True)
    config = FederateConfig(
        num_clients=3, clients_per_round=1, partition="dirichlet", partition_options=options
    )
    parts, again = deal(config, toy_people), deal(config, toy_people)
    assert partition_hash(parts) == partition_hash(again)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(toy_people)))
    evenly = FederateConfig(num_clients=3, clients_per_round=1)
    assert partition_hash(deal(evenly, toy_people)) != partition_hash(parts)
