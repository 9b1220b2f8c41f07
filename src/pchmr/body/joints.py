"""Every joint set of the package: names, order, root, mirror, regressor. The only joint integers.

Sources: SMPL (Loper et al. 2015), Human3.6M (Ionescu et al. 2014) with METRO's 17-joint regressor
order, COCO (Lin et al. 2014) with OpenPose's six foot points, METRO's 24-joint label order.
"""

from dataclasses import dataclass

SIDES = (("L_", "R_"), ("left_", "right_"))


@dataclass(frozen=True, kw_only=True)
class JointSet:
    """An ordered set of named joints.

    Attributes:
        name: Key in `JOINT_SETS`.
        names: Joint names, in order.
        root_names: Joints whose mean is the origin that scores are centred on.
        regressor: Key of the (K, V) regressor in a body file; None where labels hold the joints.
    """

    name: str
    names: tuple[str, ...]
    root_names: tuple[str, ...]
    regressor: str | None = None

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Position of a joint; `ValueError` names the set where it has no such joint."""
        return self.names.index(name)

    def indices(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """Positions of several joints, in the order asked for."""
        return tuple(self.index(name) for name in names)

    @property
    def root(self) -> tuple[int, ...]:
        """Positions of the joints whose mean is the origin."""
        return self.indices(self.root_names)

    @property
    def mirror(self) -> tuple[int, ...]:
        """Permutation that swaps left and right; applied twice it is the identity."""
        return tuple(self.index(mirror_name(name)) for name in self.names)


def mirror_name(name: str) -> str:
    """The name with its side swapped; names without a side stay."""
    for left, right in SIDES:
        if name.startswith(left):
            return right + name[len(left) :]
        if name.startswith(right):
            return left + name[len(right) :]
    return name


SMPL_24 = JointSet(
    name="smpl_24",
    names=(
        "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2",
        "left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar",
        "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        "left_wrist", "right_wrist", "left_hand", "right_hand",
    ),
    root_names=("pelvis",),
    regressor="J_regressor",
)  # fmt: skip

SMPL_PARENTS = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip

H36M_17 = JointSet(
    name="h36m_17",
    names=(
        "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "torso", "neck", "nose", "head_top", "left_shoulder", "left_elbow", "left_wrist",
        "right_shoulder", "right_elbow", "right_wrist",
    ),
    root_names=("pelvis",),
    regressor="J_regressor_h36m",
)  # fmt: skip

EVALUATION_14 = JointSet(
    name="evaluation_14",
    names=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck", "head_top",
    ),
    root_names=("right_hip", "left_hip"),
    regressor="J_regressor_h36m",
)  # fmt: skip

METRO_24 = JointSet(
    name="metro_24",
    names=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck", "top_of_head", "pelvis", "thorax", "spine", "jaw", "head", "nose",
        "left_eye", "right_eye", "left_ear", "right_ear",
    ),
    root_names=("pelvis",),
)  # fmt: skip

COCO_17 = JointSet(
    name="coco_17",
    names=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    root_names=("left_hip", "right_hip"),
    regressor="J_regressor_coco",
)  # fmt: skip

COCO_23 = JointSet(
    name="coco_23",
    names=(
        *COCO_17.names, "left_big_toe", "left_small_toe", "left_heel",
        "right_big_toe", "right_small_toe", "right_heel",
    ),
    root_names=("left_hip", "right_hip"),
    regressor="J_regressor_coco",
)  # fmt: skip

JOINT_SETS = {s.name: s for s in (SMPL_24, H36M_17, EVALUATION_14, METRO_24, COCO_17, COCO_23)}

# Mirror of the 23 rotations of `body_pose`, which leaves the root out.
BODY_POSE_MIRROR = tuple(joint - 1 for joint in SMPL_24.mirror[1:])
H36M_TO_EVALUATION = H36M_17.indices(EVALUATION_14.names)
METRO_TO_EVALUATION = METRO_24.indices(
    tuple("head" if name == "head_top" else name for name in EVALUATION_14.names)
)
