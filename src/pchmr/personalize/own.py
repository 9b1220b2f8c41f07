"""The one user whose own photos or video are on this device.

Labels are made by `pchmr annotate`'s own code, or given. A fifth is held out: half of it ends
training, half is scored; too few for two halves serve both.
"""

from pathlib import Path

import numpy as np

from pchmr.annotate import job
from pchmr.body import BodyModel
from pchmr.config import AnnotateConfig, PersonalizeConfig, SettingError
from pchmr.data.labels import ACCEPTED, LabeledPictures, is_labels
from pchmr.data.sample import Subset
from pchmr.personalize.users import REVIEW, User, counts

FEWEST_HALVES = 4


def own_user(config: PersonalizeConfig, body: BodyModel, side: int) -> User:
    """Labels the pictures, or reads what was given, and deals them.

    Raises:
        UserError: Nobody in the pictures, several people and no choice, labels of another body.
    """
    folder = labels_of(config)
    kept = (ACCEPTED, REVIEW) if config.fitting_options.use_review else (ACCEPTED,)
    train = LabeledPictures(folder, "train", body=body, image_size=side, statuses=kept)
    held = LabeledPictures(folder, "test", body=body, image_size=side, statuses=kept)
    first = second = np.arange(len(held))
    if len(held) >= FEWEST_HALVES:
        first, second = np.array_split(first, 2)
    return User(
        name="own",
        train=train,
        validation=Subset(held, first),
        test=Subset(held, second),
        about={"labels": counts(train)},
    )


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
        images=config.images, output=config.output / "labels", mode=labeling.mode,
        body=config.model_options.body, bbox=labeling.bbox,
        keypoint_prior=labeling.keypoint_prior, keypoint_weights=labeling.keypoint_weights,
        accept_mm=labeling.accept_mm, reject_mm=labeling.reject_mm, device=config.device,
    )  # fmt: skip
    return job.run(wanted)
