"""Keypoints in the picture: the reprojection error."""

from torch import Tensor

from pchmr.annotate.residuals.frame import Frame
from pchmr.annotate.residuals.seen import Evidence
from pchmr.annotate.residuals.term import Term, Weights, sharpened

REFERENCE_SIDE = 700.0
NEAREST_DEPTH = 0.1
PIXEL_SD = 6.0


def keypoint_term(frame: Frame, seen: Evidence, weights: Weights) -> Term:
    """Reprojection error in reference pixels, less sharp where the keypoint is."""
    xyz = frame.keypoints
    scale = (seen.focal * frame.state.log_focal.exp() / seen.pixel_unit)[:, None, None]
    z = xyz[..., 2:].clamp_min(NEAREST_DEPTH)
    plane = xyz[..., :2] / z
    wanted = (seen.keypoints - seen.center[:, None]) / seen.pixel_unit[:, None, None]
    residual = scale * plane - wanted

    def derive() -> Tensor:
        slope = frame.blank(residual)
        per_point, factor = frame.keypoint_jacobian.derivative, (scale / z)[..., None]
        moved = per_point[..., :2, :] - plane[..., None] * per_point[..., 2:, :]
        slope[..., : moved.shape[-1]] = factor * moved
        slope[..., frame.skeleton.columns.focal] = (scale * plane)[..., None]
        return slope

    term = Term("keypoints", residual, derive, seen.confidence / PIXEL_SD, weights.rho_px)
    return sharpened(term, seen.keypoint_sharpness)
