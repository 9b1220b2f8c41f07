"""What becomes of a fit: its predicted error, what is doubtful, a status and the reason for it.

Labels and predictions are judged by the same words. Nothing is accepted without a predictor of its
own source, nor where its evidence lies outside of what that predictor was fitted on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pchmr.annotate.deposer import MODES, Fit
from pchmr.annotate.doubts import doubts_of, foreign_factor
from pchmr.annotate.observed import Observations
from pchmr.annotate.plausibility import why_implausible
from pchmr.annotate.quality import (
    ErrorPredictor,
    Inspection,
    is_usual,
    known_errors,
    predict_mm,
    verdicts,
    why_unknown,
)
from pchmr.annotate.quality.verdicts import Verdict

IDEAL = "oracle"  # source of the observations that the predictors named by mode were fitted on
OBSERVED = "observations"  # source of a file of observations
UNCALIBRATED = "the predicted error is not calibrated for"
UNUSUAL = "no evidence like this was among what the predicted error was calibrated on"
UNSOUND = "the fit failed: the mesh is not finite, or not before the camera"


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """Of every frame.

    Attributes:
        verdicts: Status, and the reason for anything but acceptance.
        predicted_mm: Expected MPJPE, raised by doubts; NaN where nothing predicts it.
        doubts: What raised it most; empty where nothing did.
        is_calibrated: Whether a predictor of this very source spoke.
    """

    verdicts: list[Verdict]
    predicted_mm: Float[ndarray, " frames"]
    doubts: list[str]
    is_calibrated: bool

    @property
    def status(self) -> ndarray:
        """Accepted, review or rejected, of every frame."""
        return np.array([status for status, _ in self.verdicts], dtype="U8")

    @property
    def reason(self) -> ndarray:
        """Why not accepted, of every frame; empty where it is."""
        return np.array([reason for _, reason in self.verdicts], dtype="U160")


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Judges fits to the observations of one source.

    Attributes:
        predictors: Of the error, by mode, or by source and mode.
        mode: In which is fitted.
        source: Where observations come from: the keypoint prior, and `+` and a depth prior. The
            predictor named `SOURCE/MODE` is the one that was fitted for them; without it the one
            named `MODE`, fitted on `IDEAL` observations, gives a number, and nothing is accepted.
        accept_mm: Predicted error below which a fit is accepted.
        reject_mm: Predicted error above which it is rejected.
    """

    predictors: dict[str, ErrorPredictor] = field(default_factory=dict)
    mode: str
    source: str = OBSERVED
    accept_mm: float = 60.0
    reject_mm: float = 150.0

    @property
    def predictor(self) -> tuple[str, bool]:
        """Name of the predictor, and whether it was fitted for observations of this source."""
        keypoints = self.source.partition("+")[0]
        uses_depth = self.mode in MODES and MODES[self.mode].uses_depth
        own = f"{self.source if uses_depth else keypoints}/{self.mode}"
        if own in self.predictors:
            return own, True
        return self.mode, self.source == IDEAL and self.mode in self.predictors

    def judge(
        self,
        observations: Observations,
        fit: Fit,
        found: Inspection,
        vertices: Float[ndarray, "frames vertices 3"],
    ) -> Judgment:
        """Judges fitted frames.

        Args:
            observations: What was fitted.
            fit: Of the same frames.
            found: What the fit says of itself.
            vertices: Its meshes, metres in the camera frame.
        """
        name, calibrated = self.predictor
        if observations.keypoints_3d is not None and not calibrated:
            name = f"{self.source}/{self.mode}"  # none was fitted to joints in space
        predicted = known_errors(observations, predict_mm(self.predictors, name, found))
        doubts = doubts_of(observations, fit, is_settled=self.mode in MODES)
        predicted = doubts.worsen(predicted)
        if not calibrated:
            predicted = predicted * foreign_factor(fit)
        sound = np.isfinite(vertices).all(axis=(1, 2)) & (vertices[..., 2].min(axis=1) > 0)
        predicted = np.where(sound, predicted, np.nan)
        judged = verdicts(
            observations,
            predicted,
            accept_mm=self.accept_mm,
            reject_mm=self.reject_mm,
            unknown=why_unknown(self.predictors, name),
            foreign="" if calibrated else f"{UNCALIBRATED} {self.source}",
            wrong=why_implausible(observations),
            doubts=doubts.words(),
        )
        usual = is_usual(self.predictors, name, found)
        return Judgment(
            verdicts=_weighed(judged, sound, usual),
            predicted_mm=predicted,
            doubts=doubts.words(),
            is_calibrated=calibrated,
        )


def _weighed(judged: Sequence[Verdict], sound: ndarray, usual: ndarray) -> list[Verdict]:
    """Verdicts, less where a fit failed or its evidence is of no known kind."""
    out: list[Verdict] = []
    for verdict, whole, known in zip(judged, sound, usual, strict=True):
        if not whole and verdict[0] != "rejected":
            out.append(("rejected", UNSOUND))
        elif not known and verdict[0] == "accepted":
            out.append(("review", UNUSUAL))
        else:
            out.append(verdict)
    return out
