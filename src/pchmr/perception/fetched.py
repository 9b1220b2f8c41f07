"""Networks of others that `pchmr priors get` fetches: which files, whose, where they are kept.

Every file is pinned by hash, and checked at every opening. Nothing here touches a network: the room
`priors` fetches.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pchmr.config import UserError
from pchmr.data.licensed import DATA_VARIABLE

FOLDER = "priors"
PROVENANCE = "provenance.json"


class PriorFileError(UserError):
    """A fetched prior that is missing or damaged: the message names the cure."""


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """A file inside the wheel.

    Attributes:
        member: Its name there.
        num_bytes: Its size.
        sha256: Of its bytes.
    """

    member: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class FetchedPrior:
    """A prior that somebody else made and hands out inside a Python wheel.

    Attributes:
        package: Of the Python package index.
        version: Of the package.
        wheel: The file's name.
        wheel_sha256: Of the file.
        python_version: That the wheel is for; nothing of it is run.
        platform: That the wheel is for.
        license: Tag.
        files: What is kept, by the name under which it is kept.
        scope: What its makers say it is for, and not for.
    """

    package: str
    version: str
    wheel: str
    wheel_sha256: str
    python_version: str
    platform: str
    license: str
    files: dict[str, PinnedFile]
    scope: str

    @property
    def num_bytes(self) -> int:
        """Of what is kept."""
        return sum(file.num_bytes for file in self.files.values())


DETECTOR, LANDMARKS, LICENSE_TEXT = "pose_detection.tflite", "pose_landmark_full.tflite", "LICENSE"
FETCHED: dict[str, FetchedPrior] = {
    "blazepose": FetchedPrior(
        package="mediapipe",
        version="0.10.21",
        wheel="mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl",
        wheel_sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
        python_version="3.11",
        platform="manylinux_2_28_x86_64",
        license="Apache-2.0",
        files={
            DETECTOR: PinnedFile(
                member="mediapipe/modules/pose_detection/pose_detection.tflite",
                num_bytes=2_959_046,
                sha256="9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
            ),
            LANDMARKS: PinnedFile(
                member="mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
                num_bytes=6_440_512,
                sha256="e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
            ),
            LICENSE_TEXT: PinnedFile(
                member="mediapipe-0.10.21.dist-info/LICENSE",
                num_bytes=12_331,
                sha256="8707eef0533987efc5b155d64761eeb6e20793f50b9bd1a68dad1cf4719d0ed8",
            ),
        },
        scope=(
            "one person within 4 m, head in view; not for several people at once, surveillance, "
            "identity or metric claims"
        ),
    )
}
"""What can be fetched, by name."""


def data_root(given: Path | None = None) -> Path:
    """The user's data folder: the one given, else $PCHMR_DATA, else ~/.pchmr."""
    return given or Path(os.environ.get(DATA_VARIABLE) or Path.home() / ".pchmr").expanduser()


def prior_folder(name: str, root: Path | None = None) -> Path:
    """Where the files of a prior are kept."""
    return data_root(root) / FOLDER / name


def read_pinned(name: str, file: str, folder: Path | None = None) -> bytes:
    """The bytes of a prior's file, checked.

    Args:
        name: Key of `FETCHED`.
        file: Which of its files.
        folder: Where it lies; without it, `prior_folder`.

    Raises:
        PriorFileError: It is missing, cannot be read, or is another file under this name.
    """
    path = (folder or prior_folder(name)) / file
    pinned = FETCHED[name].files[file]
    try:
        with open(path, "rb") as opened:
            content = opened.read(pinned.num_bytes + 1)
    except FileNotFoundError:
        raise PriorFileError(
            f"prior {name} is not in {path.parent}: `pchmr priors get {name}` fetches it "
            f"({FETCHED[name].license})"
        ) from None
    except OSError as error:
        raise PriorFileError(f"prior {name}: cannot read {path}: {error.strerror}") from None
    if not matches(content, pinned):
        raise PriorFileError(
            f"prior {name}: {path} is another file under this name or damaged: "
            f"`pchmr priors get {name}` fetches it anew"
        )
    return content


def matches(content: bytes, pinned: PinnedFile) -> bool:
    """Whether bytes are those that were pinned."""
    same = len(content) == pinned.num_bytes
    return same and hashlib.sha256(content).hexdigest() == pinned.sha256


def state(name: str, folder: Path | None = None) -> str:
    """`ok`, `missing`, or `broken` where files are there that are not the pinned ones."""
    folder = folder or prior_folder(name)
    files = FETCHED[name].files
    if not any((folder / file).exists() for file in files):
        return "missing"
    try:
        for file in files:
            read_pinned(name, file, folder)
    except PriorFileError:
        return "broken"
    return "ok"


def usual_prior() -> str:
    """The keypoint network that is used where none is named: photo-trained where it is here."""
    return "blazepose" if state("blazepose") == "ok" else "embedded"


def missed(name: str = "blazepose") -> str:
    """One line on what a user without a prior misses; empty where it is there."""
    if state(name) == "ok":
        return ""
    prior = FETCHED[name]
    return (
        f"note: people in photos are found better by a network that has seen photos: "
        f"`pchmr priors get {name}` fetches it ({prior.num_bytes / 1e6:.0f} MB, {prior.license})"
    )
