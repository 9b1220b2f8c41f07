"""What the fit weighs against each other: every term a function of a frame, evidence and weights.

A term's energy is `sum weight^2 rho^2 r^2 / (rho^2 + r^2)` over its residual vectors of length r
(Geman and McClure, 1985), or `sum weight^2 r^2` without rho. Units are metres, radians and
reference pixels: pixels of a picture in which the person is about `REFERENCE_SIDE` long. A mode
takes `TERMS`, or a tuple of its own; their order means nothing.
"""

from pchmr.annotate.residuals.bones import bone_term, tilt_term, told_term
from pchmr.annotate.residuals.depth import depth_term, scale_term, shift_term
from pchmr.annotate.residuals.frame import Frame
from pchmr.annotate.residuals.keypoints import keypoint_term
from pchmr.annotate.residuals.objective import Objective
from pchmr.annotate.residuals.person import focal_term, limit_term, prior_term, shape_term
from pchmr.annotate.residuals.points import dense_term
from pchmr.annotate.residuals.seen import Evidence
from pchmr.annotate.residuals.term import Term, TermFunction, Weights

TERMS: tuple[TermFunction, ...] = (
    keypoint_term,
    depth_term,
    scale_term,
    shift_term,
    dense_term,
    prior_term,
    limit_term,
    shape_term,
    focal_term,
    bone_term,
    tilt_term,
    told_term,
)

__all__ = ["TERMS", "Evidence", "Frame", "Objective", "Term", "TermFunction", "Weights"]
