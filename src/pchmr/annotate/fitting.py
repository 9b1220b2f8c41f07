"""From observations to label arrays: fits batch by batch, inspects, predicts errors, judges."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.clips import fit_clip, part_of
from pchmr.annotate.deposer import MODES, Annotator, Fit, Start
from pchmr.annotate.doubts import doubts_of, foreign_factor
from pchmr.annotate.keypoints import LABEL_JOINTS
from pchmr.annotate.kinematics import pose
from pchmr.annotate.modes import FITTERS, check_mode
from pchmr.annotate.observed import Observations
from pchmr.annotate.plausibility import why_implausible
from pchmr.annotate.quality import (
    ErrorPredictor,
    inspect,
    known_errors,
    predict_mm,
    verdicts,
    why_unknown,
)
from pchmr.geometry import rotmat_to_rotvec

IDEAL = "oracle"  # source of the observations that the predictors named by mode were fitted on
OBSERVED = "observations"  # source of a file of observations
UNCALIBRATED = "the predicted error is not calibrated for"
UNSOUND = "the fit failed: the mesh is not finite, or not before the camera"


@dataclass(frozen=True, kw_only=True)
class Labeler:
    """How observations become labels.

    Attributes:
        annotator: Body and prior.
        predictors: Of the error, by mode.
        mode: One of `FITTERS`.
        batch_size: Frames solved together.
        accept_mm: Predicted error below which a label is accepted.
        reject_mm: Predicted error above which it is rejected.
        source: Where observations come from: the keypoint prior, and `+` and a depth prior. The
            predictor named `SOURCE/MODE` is the one that was fitted for them; without it the one
            named `MODE`, fitted on `IDEAL` observations, gives a number, and nothing is accepted.
        consecutive: Frames are one person's video: one shape and focal length, smooth motion.
    """

    annotator: Annotator
    predictors: dict[str, ErrorPredictor] = field(default_factory=dict)
    mode: str
    batch_size: int = 32
    accept_mm: float = 60.0
    reject_mm: float = 150.0
    source: str = OBSERVED
    consecutive: bool = False

    def label(
        self,
        observations: Observations,
        starts: Callable[[slice], Sequence[Start]] | None = None,
        on_frames: Callable[[int], object] | None = None,
    ) -> dict[str, ndarray]:
        """Label arrays of all frames; see `labels.LABEL_ARRAYS`, and `joint_std`, residuals.

        Args:
            observations: Of any number of frames.
            starts: Further starts for a slice of frames, for instance a network's predictions.
            on_frames: Told how many frames were finished.
        """
        check_mode(self.mode, observations)
        parts = []
        size = len(observations) if self.consecutive else self.batch_size
        for at in range(0, len(observations), size):
            rows = slice(at, at + size)
            part = observations.take(rows)
            more = starts(rows) if starts else ()
            if self.consecutive:
                fit = fit_clip(self.annotator, part, self.mode, more, batch_size=self.batch_size)
            else:
                fit = FITTERS[self.mode](self.annotator, part, more)
            for some in torch.arange(len(part)).split(self.batch_size):
                parts.append(self._arrays(part.take(some.numpy()), part_of(fit, some)))
            if on_frames:
                on_frames(len(part))
        names = {name for part in parts for name in part}
        return {
            **{name: np.concatenate([part[name] for part in parts]) for name in sorted(names)},
            "joint_names": np.array(LABEL_JOINTS),
            "keypoint_names": np.array(observations.keypoint_names),
        }

    @property
    def judge(self) -> tuple[str, bool]:
        """Name of the predictor, and whether it was fitted for observations of this source."""
        keypoints = self.source.partition("+")[0]
        uses_depth = self.mode in MODES and MODES[self.mode].uses_depth
        own = f"{self.source if uses_depth else keypoints}/{self.mode}"
        if own in self.predictors:
            return own, True
        return self.mode, self.source == IDEAL and self.mode in self.predictors

    def _arrays(self, observations: Observations, fit: Fit) -> dict[str, ndarray]:
        found = inspect(self.annotator, fit)
        judge, calibrated = self.judge
        if observations.keypoints_3d is not None and not calibrated:
            judge = f"{self.source}/{self.mode}"  # none was fitted to joints in space
        predicted = known_errors(observations, predict_mm(self.predictors, judge, found))
        doubts = doubts_of(observations, fit, is_settled=self.mode in MODES)
        predicted = doubts.worsen(predicted)
        if not calibrated:
            predicted = predicted * foreign_factor(fit)
        vertices = self.annotator.vertices(fit).cpu().numpy()
        sound = np.isfinite(vertices).all(axis=(1, 2)) & (vertices[..., 2].min(axis=1) > 0)
        predicted = np.where(sound, predicted, np.nan)
        judged = verdicts(
            observations,
            predicted,
            accept_mm=self.accept_mm,
            reject_mm=self.reject_mm,
            unknown=why_unknown(self.predictors, judge),
            foreign="" if calibrated else f"{UNCALIBRATED} {self.source}",
            wrong=why_implausible(observations),
            doubts=doubts.words(),
        )
        judged = [
            verdict if whole or verdict[0] == "rejected" else ("rejected", UNSOUND)
            for verdict, whole in zip(judged, sound, strict=True)
        ]
        state = fit.state
        rotvec = rotmat_to_rotvec(state.rotmat).cpu().numpy()
        values: dict[str, ndarray] = {
            "global_orient": rotvec[:, 0],
            "body_pose": rotvec[:, 1:],
            "betas": state.betas.cpu().numpy(),
            "transl": state.transl.cpu().numpy(),
            "intrinsics": _cameras(observations, fit),
            "vertices": vertices,
            "joints": self.annotator.label_joints(fit).cpu().numpy(),
            "joint_std": found.joint_std,
            "smpl_joints": pose(self.annotator.skeleton, state).joints.cpu().numpy(),
            "keypoints_2d": observations.keypoints_2d,
            "predicted_error_mm": predicted,
            **{f"residual_{name}": value for name, value in found.residuals.items()},
        }
        arrays = {name: value.astype(np.float32) for name, value in values.items()}
        arrays["calibrated"] = np.full(len(judged), calibrated)
        arrays["doubt"] = np.array(doubts.words(), dtype="U96")
        arrays["status"] = np.array([status for status, _ in judged], dtype="U8")
        arrays["reason"] = np.array([reason for _, reason in judged], dtype="U160")
        return arrays


def _cameras(observations: Observations, fit: Fit) -> Float[ndarray, "frames 3 3"]:
    """The cameras that the fit ended with; given focal ratios stay."""
    seen = fit.objective.evidence
    focal = (seen.focal * torch.exp(fit.state.log_focal)).cpu().double().numpy()
    camera = np.zeros((len(focal), 3, 3))
    camera[:, :2, 2] = seen.center.cpu().double().numpy()
    camera[:, 0, 0], camera[:, 1, 1], camera[:, 2, 2] = focal, focal, 1
    given = observations.intrinsics
    if given is not None:
        camera[:, 1, 1] = focal * given[:, 1, 1] / given[:, 0, 0]
    return camera
