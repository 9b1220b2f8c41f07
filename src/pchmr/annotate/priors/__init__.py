"""What a foundation model says about a picture of a person: keypoints, depth, boxes; by name.

Adapters load local weights and never download. Each is one file and one line in `PRIORS`; heavy
libraries are imported when an adapter is built, so that this module costs nothing.
"""

from importlib import import_module
from pathlib import Path

from pchmr.annotate.priors.interfaces import DepthPrior, KeypointPrior, Provenance
from pchmr.config import SettingError

PRIORS: dict[str, str] = {
    "sapiens2-pose": "sapiens2:Sapiens2Pose",
    "sapiens2-pointmap": "sapiens2:Sapiens2Pointmap",
    "vitpose": "vitpose:VitPose",
    "depth-anything": "monocular:DepthAnything",
    "depth-pro": "monocular:DepthPro",
    "sapiens1-pose": "torchscript:Sapiens1Pose",
    "sapiens1-depth": "torchscript:Sapiens1Depth",
    "rtmpose-onnx": "simcc:RtmPose",
}
"""Name -> file:class in this room; every class takes the path of its weights."""

KEYPOINT_PRIORS = ("sapiens2-pose", "vitpose", "sapiens1-pose", "rtmpose-onnx")
DEPTH_PRIORS = ("sapiens2-pointmap", "depth-anything", "depth-pro", "sapiens1-depth")


def load_keypoint_prior(name: str, weights: Path) -> KeypointPrior:
    """A keypoint model from local weights.

    Raises:
        SettingError: Unknown name, missing weights or a missing library.
    """
    return _load(name, weights, KEYPOINT_PRIORS)


def load_depth_prior(name: str, weights: Path) -> DepthPrior:
    """A depth model from local weights; raises like `load_keypoint_prior`."""
    return _load(name, weights, DEPTH_PRIORS)


def _load(name: str, weights: Path, allowed: tuple[str, ...]):
    if name not in allowed:
        raise SettingError(f"unknown prior {name}; known: {', '.join(allowed)}")
    if not weights.exists():
        raise SettingError(
            f"weights of {name} do not exist at {weights}: nothing is downloaded here; get them "
            "from their publisher under their licence and give the path"
        )
    file, kind = PRIORS[name].split(":")
    try:
        return getattr(import_module(f"pchmr.annotate.priors.{file}"), kind)(weights)
    except ImportError as error:
        raise SettingError(
            f"prior {name} needs {error.name}: install it with `pip install pchmr[priors]`"
        ) from None


__all__ = [
    "DEPTH_PRIORS",
    "KEYPOINT_PRIORS",
    "PRIORS",
    "DepthPrior",
    "KeypointPrior",
    "Provenance",
    "load_depth_prior",
    "load_keypoint_prior",
]
