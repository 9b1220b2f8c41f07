"""The ways to annotate, by name: every one takes observations and gives a `Fit`."""

from collections.abc import Callable, Sequence
from functools import partial

from pchmr.annotate.deposer import MODES, Annotator, Fit, Mode, Start
from pchmr.annotate.observed import Observations
from pchmr.annotate.smplify import TORSO, fit_smplify
from pchmr.config import SettingError

Fitter = Callable[[Annotator, Observations, Sequence[Start]], Fit]


def _fit_mode(
    annotator: Annotator, observations: Observations, starts: Sequence[Start], *, mode: Mode
) -> Fit:
    return annotator.fit(observations, mode, starts)


FITTERS: dict[str, Fitter] = {
    "smplifyx": fit_smplify,
    "smplifyx-given-focal": partial(fit_smplify, given_focal=True),
    **{name: partial(_fit_mode, mode=mode) for name, mode in MODES.items()},
}


def best_mode(observations: Observations) -> str:
    """The mode that uses all there is: metric dense points, depth, joints in space, pixels."""
    if observations.points is not None and observations.depth_kind == "metric":
        return "deposer-dense"
    knows = (observations.keypoint_depth, observations.keypoints_3d)
    return "strong-2d" if all(one is None for one in knows) else "deposer-keypoint"


def check_mode(mode: str, observations: Observations) -> None:
    """Refuses a mode that needs what was not observed.

    Raises:
        SettingError: The mode is unknown or lacks its depth.
    """
    if mode not in FITTERS:
        raise SettingError(f"unknown mode {mode}; known: auto, {', '.join(FITTERS)}")
    best = best_mode(observations)
    if mode == "smplifyx-given-focal" and observations.intrinsics is None:
        raise SettingError(f"--mode {mode} needs `intrinsics`: use --mode smplifyx")
    if mode.startswith("smplifyx"):
        missing = sorted(set(TORSO) - set(observations.reading.names))
        if len(missing) == len(TORSO):
            raise SettingError(f"--mode {mode} needs a shoulder or hip: use --mode {best}")
    if mode == "deposer-dense" and best != mode:
        raise SettingError(
            f"--mode {mode} needs metric `points`, which were not observed: use --mode {best}"
        )
    if mode == "deposer-keypoint" and best == "strong-2d":
        raise SettingError(
            f"--mode {mode} needs `keypoint_depth` or `keypoints_3d`: use --mode {best}"
        )
