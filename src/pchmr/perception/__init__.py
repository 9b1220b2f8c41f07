"""What a foundation model says about a picture of a person: keypoints, depth, boxes; by name.

Adapters load local weights and never download. Each is one file and one line in `PRIORS`; heavy
libraries are imported when an adapter is built, so that this module costs nothing.
"""

from importlib import import_module
from pathlib import Path

from pchmr.config import SettingError
from pchmr.perception.interfaces import DepthPrior, KeypointPrior, Provenance

PRIORS: dict[str, str] = {
    "embedded": "embedded:Embedded",
    "sapiens2-pose": "sapiens2:Sapiens2Pose",
    "sapiens2-pointmap": "sapiens2:Sapiens2Pointmap",
    "vitpose": "vitpose:VitPose",
    "depth-anything": "monocular:DepthAnything",
    "depth-pro": "monocular:DepthPro",
    "sapiens1-pose": "torchscript:Sapiens1Pose",
    "sapiens1-depth": "torchscript:Sapiens1Depth",
    "rtmpose-onnx": "simcc:RtmPose",
    "blazepose": "blazepose.prior:BlazePose",
}
"""Name -> file:class in this room; every class takes the path of its weights."""

AT_HAND = ("embedded", "blazepose")
"""Priors that know where their weights are: shipped, or fetched by `pchmr priors get`."""

PUBLISHERS = {
    "sapiens2-pose": "huggingface.co/facebook (Sapiens2 License)",
    "sapiens2-pointmap": "huggingface.co/facebook (Sapiens2 License)",
    "vitpose": "huggingface.co/usyd-community (Apache-2.0)",
    "depth-anything": "huggingface.co/depth-anything (Apache-2.0 or CC-BY-NC-4.0)",
    "depth-pro": "huggingface.co/apple/DepthPro-hf (apple-amlr)",
    "sapiens1-pose": "huggingface.co/facebook/sapiens (CC-BY-NC-4.0)",
    "sapiens1-depth": "huggingface.co/facebook/sapiens (CC-BY-NC-4.0)",
    "rtmpose-onnx": "github.com/open-mmlab/mmpose (Apache-2.0)",
}
"""Whose page hands the weights out, and under what."""

KEYPOINT_PRIORS = (
    "embedded",
    "sapiens2-pose",
    "vitpose",
    "sapiens1-pose",
    "rtmpose-onnx",
    "blazepose",
)
DEPTH_PRIORS = ("sapiens2-pointmap", "depth-anything", "depth-pro", "sapiens1-depth")


def load_keypoint_prior(name: str, weights: Path | None = None) -> KeypointPrior:
    """A keypoint model from local weights; those `AT_HAND` need no path.

    Raises:
        SettingError: Unknown name, missing weights or a missing library.
    """
    return _load(name, weights, KEYPOINT_PRIORS)


def load_depth_prior(name: str, weights: Path) -> DepthPrior:
    """A depth model from local weights; raises like `load_keypoint_prior`."""
    return _load(name, weights, DEPTH_PRIORS)


def _load(name: str, weights: Path | None, allowed: tuple[str, ...]):
    if name not in allowed:
        raise SettingError(f"unknown prior {name}; known: {', '.join(allowed)}")
    file, kind = PRIORS[name].split(":")
    if weights is None and name in AT_HAND:
        return getattr(import_module(f"pchmr.perception.{file}"), kind)()
    if weights is None or not weights.exists():
        where = "are not given" if weights is None else f"do not exist at {weights}"
        raise SettingError(
            f"weights of {name} {where}: nothing is downloaded here; get them from "
            f"{PUBLISHERS.get(name, 'their publisher')} under their licence and give the path"
        )
    try:
        return getattr(import_module(f"pchmr.perception.{file}"), kind)(weights)
    except ImportError as error:
        raise SettingError(
            f"prior {name} needs {error.name}: install it with `pip install pchmr[priors]`"
        ) from None


__all__ = [
    "AT_HAND",
    "DEPTH_PRIORS",
    "KEYPOINT_PRIORS",
    "PRIORS",
    "DepthPrior",
    "KeypointPrior",
    "Provenance",
    "load_depth_prior",
    "load_keypoint_prior",
]
