"""What a foundation model says about a picture of a person: keypoints, depth, boxes; by name.

Adapters load local weights and never download. Each is one file and one line in `PRIORS`; heavy
libraries are imported when an adapter is built, so that this module costs nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pchmr.choices import load
from pchmr.config import SettingError
from pchmr.perception.interfaces import DepthPrior, KeypointPrior, Provenance


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What is known of a prior before it is built.

    Attributes:
        target: `module:class`; the class takes the path of its weights.
        kind: What it says of a picture.
        publisher: Whose page hands the weights out, and under what.
        at_hand: Whether it knows where its weights are: shipped, or fetched by `pchmr priors get`.
    """

    target: str
    kind: Literal["keypoints", "depth"]
    publisher: str = "their publisher"
    at_hand: bool = False


_HERE = "pchmr.perception."
_HF, _CLOSED = "huggingface.co/", "(CC-BY-NC-4.0)"
_SAPIENS_2, _SAPIENS_1 = _HF + "facebook (Sapiens2 License)", _HF + f"facebook/sapiens {_CLOSED}"
PRIORS: dict[str, Prior] = {
    "embedded": Prior(target=_HERE + "embedded:Embedded", kind="keypoints", at_hand=True),
    "sapiens2-pose": Prior(
        target=_HERE + "sapiens2:Sapiens2Pose", kind="keypoints", publisher=_SAPIENS_2
    ),
    "sapiens2-pointmap": Prior(
        target=_HERE + "sapiens2:Sapiens2Pointmap", kind="depth", publisher=_SAPIENS_2
    ),
    "vitpose": Prior(
        target=_HERE + "vitpose:VitPose",
        kind="keypoints",
        publisher=_HF + "usyd-community (Apache-2.0)",
    ),
    "depth-anything": Prior(
        target=_HERE + "monocular:DepthAnything",
        kind="depth",
        publisher=_HF + "depth-anything (Apache-2.0 or CC-BY-NC-4.0)",
    ),
    "depth-pro": Prior(
        target=_HERE + "monocular:DepthPro",
        kind="depth",
        publisher=_HF + "apple/DepthPro-hf (apple-amlr)",
    ),
    "sapiens1-pose": Prior(
        target=_HERE + "torchscript:Sapiens1Pose", kind="keypoints", publisher=_SAPIENS_1
    ),
    "sapiens1-depth": Prior(
        target=_HERE + "torchscript:Sapiens1Depth", kind="depth", publisher=_SAPIENS_1
    ),
    "rtmpose-onnx": Prior(
        target=_HERE + "simcc:RtmPose",
        kind="keypoints",
        publisher="github.com/open-mmlab/mmpose (Apache-2.0)",
    ),
    "blazepose": Prior(target=_HERE + "blazepose.prior:BlazePose", kind="keypoints", at_hand=True),
}


def priors_of(kind: str) -> tuple[str, ...]:
    """Names of the priors that say this of a picture: `keypoints` or `depth`."""
    return tuple(name for name, prior in PRIORS.items() if prior.kind == kind)


def load_keypoint_prior(name: str, weights: Path | None = None) -> KeypointPrior:
    """A keypoint model from local weights; those at hand need no path.

    Raises:
        SettingError: Unknown name, missing weights or a missing library.
    """
    return _load(name, weights, priors_of("keypoints"))


def load_depth_prior(name: str, weights: Path) -> DepthPrior:
    """A depth model from local weights; raises like `load_keypoint_prior`."""
    return _load(name, weights, priors_of("depth"))


def _load(name: str, weights: Path | None, allowed: tuple[str, ...]):
    if name not in allowed:
        raise SettingError(f"unknown prior {name}; known: {', '.join(allowed)}")
    prior = PRIORS[name]
    if weights is None and prior.at_hand:
        return load(prior.target)()
    if weights is None or not weights.exists():
        where = "are not given" if weights is None else f"do not exist at {weights}"
        raise SettingError(
            f"weights of {name} {where}: nothing is downloaded here; get them from "
            f"{prior.publisher} under their licence and give the path"
        )
    try:
        return load(prior.target)(weights)
    except ImportError as error:
        raise SettingError(
            f"prior {name} needs {error.name}: install it with `pip install pchmr[priors]`"
        ) from None


__all__ = [
    "PRIORS",
    "DepthPrior",
    "KeypointPrior",
    "Prior",
    "Provenance",
    "load_depth_prior",
    "load_keypoint_prior",
    "priors_of",
]
