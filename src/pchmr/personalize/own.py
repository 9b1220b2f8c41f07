"""The one user whose own photos or video are on this device.

Labels are made by `pchmr annotate`'s own code, or given. A fifth is held out: half of it ends
training, half is scored; too few for two halves serve both. Pictures that show several people are
learned from only where the user says who is meant.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from pchmr.annotate import job
from pchmr.annotate.labels import LabelFolder
from pchmr.body import BodyModel
from pchmr.config import AnnotateConfig, PersonalizeConfig, SettingError
from pchmr.data.labels import ACCEPTED, BYSTANDERS, LabeledPictures, LabelRow, is_labels
from pchmr.data.sample import Subset
from pchmr.data.synthetic.recipe import Split
from pchmr.data.videos import is_video, video_frames
from pchmr.door.arrays import read_arrays
from pchmr.perception.people import LARGEST
from pchmr.personalize.consistency import SIDE
from pchmr.personalize.users import REVIEW, NothingToLearnError, User, too_few

FEWEST_HALVES = 4


def own_user(config: PersonalizeConfig, body: BodyModel, side: int) -> User:
    """Labels the pictures, or reads what was given, and deals them.

    Raises:
        UserError: Nobody in the pictures, several people and no choice, labels of another body, or
            no label that counts.
    """
    folder = labels_of(config)
    require_choice(config, folder)
    kept = (ACCEPTED, REVIEW) if config.fitting_options.use_review else (ACCEPTED,)
    found = Counter[str]()
    for row in LabelFolder.open(folder).rows.values():
        found.update(row.get("status", {}))
    if not any(found[status] for status in kept):
        raise NothingToLearnError(too_few(folder, found, 0, config.fitting_options))
    wanted: tuple[tuple[Split, int], ...] = (("train", side), ("test", side), ("test", SIDE))
    train, held, close = (
        LabeledPictures(folder, split, body=body, image_size=size, statuses=kept)
        for split, size in wanted
    )
    first = second = np.arange(len(held))
    if len(held) >= FEWEST_HALVES:
        first, second = np.array_split(first, 2)
    return User(
        name="own",
        train=train,
        validation=Subset(held, first),
        test=Subset(held, second),
        about={"labels": dict(found)},
        close=Subset(close, second),
        times=_times(config.images, held.columns["frame"][second]),
        labeled_with=config.labeling_options.keypoint_prior,
    )


def _times(images: Path, frames: np.ndarray) -> np.ndarray | None:
    """When frames of a video were taken, seconds; None of photos."""
    if not is_video(images):
        return None
    every = np.array([time for _, time in video_frames(images)])
    return every[frames]


def labels_of(config: PersonalizeConfig) -> Path:
    """The folder of labels: given, or made here."""
    if config.labels is not None:
        if not is_labels(config.labels):
            raise SettingError(
                f"--labels {config.labels} holds no manifest.jsonl: give the output of "
                "`pchmr annotate`, or leave it out"
            )
        return config.labels
    labeling = config.labeling_options
    wanted = AnnotateConfig(
        images=config.images,
        output=config.output / "labels",
        mode=labeling.mode,
        body=config.model_options.body,
        bbox=labeling.bbox,
        person=labeling.person or LARGEST,
        keypoint_prior=labeling.keypoint_prior,
        keypoint_weights=labeling.keypoint_weights,
        accept_mm=labeling.accept_mm,
        reject_mm=labeling.reject_mm,
        device=config.device,
    )
    return job.run(wanted)


def require_choice(config: PersonalizeConfig, folder: Path) -> None:
    """Refuses pictures of several people, one of whom nobody chose.

    Raises:
        SettingError: With how to choose.
    """
    labeling = config.labeling_options
    if config.labels is not None or labeling.bbox or labeling.person:
        return
    crowded = [clip for clip in LabelFolder.open(folder).rows.values() if _is_crowded(folder, clip)]
    if crowded:
        first = Path(str(crowded[0].get("source"))).name
        raise SettingError(
            f"{len(crowded)} of the pictures, {first} first, show several people: say whose model "
            "it becomes with --person largest, a number of --person, or --bbox x,y,w,h"
        )


def _is_crowded(folder: Path, row: LabelRow) -> bool:
    """Whether a labeled picture, or a frame of a video, shows somebody else too."""
    if "labels" not in row:
        return False
    hidden = read_arrays(folder / row["labels"], (BYSTANDERS,)).get(BYSTANDERS)
    return hidden is not None and bool(hidden.any())
