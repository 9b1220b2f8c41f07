"""AMASS archives (Mahmood et al. 2019): SMPL-H or SMPL-X rotations, z up, one recording a file.

The first 22 joints are SMPL's own; hands stay as they rest. Shape and translation are not taken:
rendered people have their own, and stand on the ground.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from pchmr.body.joints import SMPL_24
from pchmr.data.errors import InputError
from pchmr.data.mocap.motion import Motion, facing_front, thinned
from pchmr.door.arrays import read_arrays

SHARED = 22
"""Joints of SMPL-H and SMPL-X that are SMPL's: all but its hands."""
RATES = ("mocap_framerate", "mocap_frame_rate")
Y_UP = Rotation.from_euler("x", -90, degrees=True)


def read_amass(path: Path, name: str) -> Motion | None:
    """The motion of an archive; None where it holds a shape and no motion.

    Raises:
        UserError: It is damaged, or holds poses of another body.
    """
    arrays = read_arrays(path, ("poses", *RATES))
    if "poses" not in arrays:
        return None
    poses, rates = arrays["poses"], [arrays[key] for key in RATES if key in arrays]
    ok = poses.ndim == 2 and poses.shape[1] >= 3 * SHARED and poses.dtype.kind == "f"
    if not ok or not rates or rates[0].size != 1:
        raise InputError(f"{path} holds no poses (n, 156 or 165) with a frame rate: get it anew")
    rate = float(rates[0].ravel()[0])
    if not np.isfinite(poses).all() or not 1 <= rate <= 1000:
        raise InputError(f"{path} holds poses or a frame rate that are not finite: get it anew")
    kept = poses[thinned(len(poses), rate), : 3 * SHARED].reshape(-1, SHARED, 3).astype(np.float64)
    found = np.zeros((len(kept), len(SMPL_24), 3))
    found[:, :SHARED] = kept
    root = SMPL_24.root[0]
    upright = facing_front((Y_UP * Rotation.from_rotvec(kept[:, root])).as_matrix())
    found[:, root] = Rotation.from_matrix(upright).as_rotvec()
    return Motion(name=name, rotvec=found)
