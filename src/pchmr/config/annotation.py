"""Configs of the verbs that label a person's own pictures and keep the labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pchmr.config.errors import require
from pchmr.config.priors import FETCHABLE
from pchmr.config.verbs import Device, require_person

ANNOTATE_MODES = (
    "auto",
    "deposer-dense",
    "deposer-keypoint",
    "strong-2d",
    "smplifyx",
    "smplifyx-given-focal",
)


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """Label a person's own pictures on this device: fit the body to keypoints and depth."""

    images: Annotated[Path | None, tyro.conf.Positional] = None
    """Photo, folder of photos, or video."""
    observations: Path | None = None
    """Keypoints and depth of another tool, in place of images: .npz, or .json (or a folder of it)
    of OpenPose, MMPose, MediaPipe or COCO."""
    pictures: Annotated[Path | None, tyro.conf.arg(name="images")] = None
    """The pictures of --observations, a frame each by name or one video: labels are drawn over
    them, and .json is given its picture sizes."""
    output: Path = Path("labels")
    """Private folder for the labels (.npz) and manifest.jsonl; finished clips are kept."""
    mode: str = "auto"
    """auto, deposer-dense, deposer-keypoint, strong-2d, smplifyx, smplifyx-given-focal."""
    consecutive: bool = False
    """The frames of --observations are a video of one person: one shape, smooth motion."""
    body: Path | None = None
    """SMPL-format body file; without it, the embedded licence-free body."""
    pose_prior: Path | None = None
    """Pose prior of your own motion data; without it, the shipped licence-free one."""
    error_predictor: Path | None = None
    """Error predictors of your own, named SOURCE/MODE; they go before the shipped ones."""
    keypoint_prior: str | None = None
    """Keypoint model: blazepose, sapiens2-pose, vitpose, sapiens1-pose, rtmpose-onnx, embedded;
    without it, blazepose where it was fetched, else embedded, which saw rendered people only."""
    keypoint_weights: Path | None = None
    """Its weights, a local file or folder; nothing is downloaded. blazepose knows its own place:
    `pchmr priors get blazepose` fetches it."""
    depth_prior: str | None = None
    """Depth model: sapiens2-pointmap, depth-anything, depth-pro, sapiens1-depth."""
    depth_weights: Path | None = None
    """Its weights."""
    checkpoint: Path | None = None
    """HMR weights whose prediction is one more start; without it, the shipped ones."""
    bbox: str | None = None
    """Box of the person, `x,y,w,h` in pixels; without it, the person is looked for."""
    person: str = "largest"
    """Who in a photo: largest, a number of a person (from 1, the surest first), or all. Bystanders
    are masked out of what is stored and trained on, unless all are labeled."""
    accept_mm: float = 60.0
    """Predicted error in mm below which a label is accepted."""
    reject_mm: float = 150.0
    """Predicted error in mm above which a label is rejected."""
    batch_size: int = 32
    """Frames solved together."""
    device: Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        require(
            (self.images is None) != (self.observations is None),
            "give either IMAGES or --observations, one of them; the pictures of --observations "
            "are --images",
        )
        require(
            self.pictures is None or self.observations is not None,
            "--images gives the pictures of --observations: leave it out, or name it IMAGES",
        )
        require(
            self.mode in ANNOTATE_MODES,
            f"unknown mode {self.mode}; known: {', '.join(ANNOTATE_MODES)}",
        )
        require_person(self.person)
        require(
            self.person == "largest" or (self.bbox is None and self.observations is None),
            "--person is for pictures without --bbox: leave one of them out",
        )
        require(self.batch_size >= 1, "--batch-size must be at least 1")
        require(
            0 < self.accept_mm <= self.reject_mm,
            "--accept-mm must be positive and at most --reject-mm",
        )
        for kind in ("keypoint", "depth"):
            name, weights = getattr(self, f"{kind}_prior"), getattr(self, f"{kind}_weights")
            at_hand = name in (*FETCHABLE, "embedded") and weights is None
            require(
                at_hand or (name is None) == (weights is None),
                f"--{kind}-prior and --{kind}-weights belong together: give both or neither",
            )
        if self.observations is not None:
            given = self.keypoint_prior or self.depth_prior or self.bbox
            require(
                not given, "--observations bring keypoints and depth: leave priors and bbox out"
            )
            require(
                self.checkpoint is None,
                "--checkpoint starts the fit from a picture: leave it out with --observations",
            )
        else:
            require(not self.consecutive, "--consecutive is for --observations; videos always are")


@dataclass(frozen=True, kw_only=True)
class LabelsConfig:
    """List, judge, export, expire or delete the labels of `pchmr annotate`."""

    labels: Annotated[Path, tyro.conf.Positional]
    """Folder of labels."""
    accept: str | None = None
    """Clips or frames to accept, with commas: CLIP, CLIP:FRAME (from 0), or all."""
    reject: str | None = None
    """Clips or frames to reject, in the same way."""
    export: Path | None = None
    """Folder to write them to in 3DPW's layout, as private as the labels."""
    keep_days: float | None = None
    """Delete what was labeled longer ago."""
    delete: str | None = None
    """Clips to delete, with commas, or all; personal models that learned from them go too."""
    who: str | None = None
    """Whose pictures these are: written into consent.json beside the labels."""
    consent_days: float | None = None
    """Days for which they may be kept; the next `pchmr labels` after that deletes them."""

    def __post_init__(self) -> None:
        ok = self.keep_days is None or self.keep_days >= 0
        require(ok, "--keep-days must not be negative")
        days = self.consent_days
        require(days is None or days >= 0, "--consent-days must not be negative")
        require(days is None or self.who is not None, "--consent-days needs --who: whose consent?")
