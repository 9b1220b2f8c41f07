"""From observations to label arrays: fits batch by batch, inspects, predicts errors, judges."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.clips import fit_clip, part_of
from pchmr.annotate.deposer import Annotator, Fit, Start
from pchmr.annotate.judging import OBSERVED, Judge
from pchmr.annotate.keypoints import LABEL_JOINTS
from pchmr.annotate.kinematics import pose
from pchmr.annotate.modes import FITTERS, check_mode
from pchmr.annotate.observed import Observations
from pchmr.annotate.quality import ErrorPredictor, inspect
from pchmr.geometry import rotmat_to_rotvec


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
        source: Where observations come from; see `Judge`.
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
    def judge(self) -> Judge:
        """Who says what becomes of a label."""
        return Judge(
            predictors=self.predictors,
            mode=self.mode,
            source=self.source,
            accept_mm=self.accept_mm,
            reject_mm=self.reject_mm,
        )

    def _arrays(self, observations: Observations, fit: Fit) -> dict[str, ndarray]:
        found = inspect(self.annotator, fit)
        vertices = self.annotator.vertices(fit).cpu().numpy()
        judged = self.judge.judge(observations, fit, found, vertices)
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
            "predicted_error_mm": judged.predicted_mm,
            **{f"residual_{name}": value for name, value in found.residuals.items()},
        }
        arrays = {name: value.astype(np.float32) for name, value in values.items()}
        arrays["calibrated"] = np.full(len(vertices), judged.is_calibrated)
        arrays["doubt"] = np.array(judged.doubts, dtype="U96")
        arrays["status"], arrays["reason"] = judged.status, judged.reason
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
