"""Recorded motion as a source of poses: AMASS archives and BVH files, on our skeleton."""

from pchmr.data.mocap.poses import PoseSet, import_poses

__all__ = ["PoseSet", "import_poses"]
