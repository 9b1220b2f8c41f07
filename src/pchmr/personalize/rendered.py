"""The users of a rendered root: each subject is one, labeled from the pictures alone.

The root is what `pchmr data synth` wrote. Labels stand in private folders, one a user, one clip a
split, and are kept for the next run. The truth is handed on for scores and teaches nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.fitting import Labeler
from pchmr.annotate.job import clip_summary
from pchmr.annotate.labels import LABEL_VERSION, LabelFolder
from pchmr.annotate.modes import best_mode
from pchmr.annotate.pictures import PictureReader, stack
from pchmr.annotate.quality import load_predictors
from pchmr.annotate.starts import HmrStarts, stack_starts
from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.config import AnnotateConfig, PersonalizeConfig, SettingError
from pchmr.data.labels import LabelKey
from pchmr.data.relabeled import Relabeled, resized
from pchmr.data.sample import PeopleDataset, Sample, Subset
from pchmr.data.synthetic import SyntheticPeople
from pchmr.data.synthetic.recipe import Split
from pchmr.door.arrays import read_arrays
from pchmr.geometry import centered
from pchmr.metrics import MM_PER_METRE, mpjpe
from pchmr.models import HMRModel
from pchmr.perception.boxes import whole
from pchmr.personalize.consensus import consensus
from pchmr.personalize.users import User, counts, held_out
from pchmr.progress import bar

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
READ = (
    "global_orient",
    "body_pose",
    "betas",
    "transl",
    "intrinsics",
    "predicted_error_mm",
    "status",
)


def is_root(folder: Path) -> bool:
    """Whether a folder was written by `pchmr data synth`."""
    return any((folder / split / "meta.json").is_file() for split in SPLITS)


def open_root(root: Path) -> dict[Split, SyntheticPeople]:
    """Its splits.

    Raises:
        UserError: One of them is missing or damaged.
    """
    return {split: SyntheticPeople.open(root / split) for split in SPLITS}


def users_of(splits: dict[Split, SyntheticPeople], root: Path, count: int | None) -> list[int]:
    """Subjects that every split shows.

    Raises:
        SettingError: There is none, as in worlds whose splits hold other people.
    """
    subjects = [set(people.columns["subject"].tolist()) for people in splits.values()]
    common = sorted(set.intersection(*subjects))
    if not common:
        raise SettingError(
            f"no subject of {root} is in train, validation and test: render people who are, with "
            "`pchmr data synth --domain V` and more --num-samples, --num-test-samples"
        )
    return common[:count]


def rows_of(people: SyntheticPeople, subject: int) -> np.ndarray:
    """Rows that show a subject."""
    return np.flatnonzero(people.columns["subject"] == subject)


@dataclass(frozen=True)
class RootLabeler:
    """Labels the rows of a rendered root from their pictures alone.

    Attributes:
        config: How.
        body: Of the labels.
        reader: Priors.
        annotator: Fits the body.
        network: Predicts where fits begin.
        network_mm: Its error on others in the setting; None where that is not known, and then its
            word alone makes no label.
    """

    config: PersonalizeConfig
    body: BodyModel
    reader: PictureReader
    annotator: Annotator
    network: HMRModel
    network_mm: float | None = None

    @classmethod
    def open(
        cls,
        config: PersonalizeConfig,
        body: BodyModel,
        network: HMRModel,
        network_mm: float | None = None,
    ) -> "RootLabeler":
        """Loads the priors that the config names; the network's predictions are one more start."""
        labeling, model = config.labeling_options, config.model_options
        prior = labeling.keypoint_prior or "embedded"  # it saw such people; its error is calibrated
        wanted = AnnotateConfig(
            images=config.images,
            mode=labeling.mode,
            body=model.body,
            keypoint_prior=prior,
            keypoint_weights=labeling.keypoint_weights,
        )
        reader = PictureReader.open(wanted, body)
        starts = HmrStarts.of(network, body)
        reader = replace(reader, starts=starts)
        return cls(config, body, reader, Annotator(body), network, network_mm)

    def user(self, splits: dict[Split, SyntheticPeople], subject: int, side: int) -> User:
        """The user that a subject is, with labels of every split.

        Args:
            splits: Of the root.
            subject: Of the user.
            side: Of the model's crops in pixels.
        """
        labeled = {split: self.part(splits, subject, split, side) for split in SPLITS}
        truth = {
            split: Subset(resized(people, side), rows_of(people, subject))
            for split, people in splits.items()
        }
        options = self.config.fitting_options
        taught = self.taught(splits, subject, side)
        own_mm = float(label_errors_mm(self.body, labeled["train"], truth["train"]).mean())
        return User(
            name=str(subject),
            train=taught,
            validation=held_out(labeled["validation"], options),
            test=held_out(labeled["test"], options),
            truth=truth,
            about={
                **about_labels(self.body, taught, truth["train"]),
                "annotator_error_mm": own_mm,
                "network_error_mm": self.network_mm,
            },
        )

    def taught(self, splits: dict[Split, SyntheticPeople], subject: int, side: int) -> Relabeled:
        """The training pictures of a subject with the labels that may teach.

        SMPLify-X's are its own; DePoser's are averaged with the network's, see `consensus`.
        """
        people, rows = splits["train"], rows_of(splits["train"], subject)
        arrays = self._arrays(people, subject, "train")
        shown = resized(people, side)
        if self.network_mm is not None and not self.config.labeling_options.mode.startswith("smpl"):
            arrays = consensus(
                self.body,
                self.network,
                Subset(shown, rows),
                arrays,
                self.network_mm,
                people.image_size,
            )
        return Relabeled(shown, rows, arrays, body=self.body, side=people.image_size)

    def part(
        self, splits: dict[Split, SyntheticPeople], subject: int, split: Split, side: int
    ) -> Relabeled:
        """The pictures of one split of a subject with the annotator's labels, rejected or not."""
        people, arrays = splits[split], self._arrays(splits[split], subject, split)
        return Relabeled(
            resized(people, side),
            rows_of(people, subject),
            arrays,
            body=self.body,
            side=people.image_size,
        )

    def _arrays(self, people: SyntheticPeople, subject: int, split: str) -> dict[str, np.ndarray]:
        place = self.config.labels or self.config.output / "labels"
        folder = LabelFolder.open(place / str(subject))
        return self._labels(folder, split, people, rows_of(people, subject))

    def _labels(
        self, folder: LabelFolder, split: str, people: SyntheticPeople, rows: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Arrays of a split, those of an earlier run where nothing that decides them changed."""
        key = self._key(people, rows)
        if self.config.labels is not None:
            self._check_given(folder, split, key)
        elif not folder.is_finished(split, key):
            self._label(folder, split, people, rows, key)
        row = folder.rows[split]
        return read_arrays(folder.path / row["labels"], READ, sha256=row["labels_sha256"])

    def _check_given(self, folder: LabelFolder, split: str, key: LabelKey) -> None:
        """Refuses labels that were given and are not of these pictures or this body."""
        row = folder.rows.get(split)
        found = {} if row is None else row.get("key", {})
        for name, what in (("input_sha256", "other pictures"), ("body_sha256", "another body")):
            if found.get(name) != key.get(name):
                raise SettingError(
                    f"--labels {folder.path}: labels of {split} are missing or belong to {what}: "
                    "leave --labels out to label the pictures anew"
                )

    def _key(self, people: SyntheticPeople, rows: np.ndarray) -> LabelKey:
        options = self.config.labeling_options
        return {
            "input_sha256": people.content_hash,
            "num_rows": len(rows),
            "label_version": LABEL_VERSION,
            "mode": options.mode,
            "body_sha256": self.body.sha256,
            "pose_prior_sha256": self.annotator.prior.sha256,
            "accept_mm": options.accept_mm,
            "reject_mm": options.reject_mm,
            "priors": self.reader.provenance,
        }

    def _label(
        self,
        folder: LabelFolder,
        split: str,
        people: SyntheticPeople,
        rows: np.ndarray,
        key: LabelKey,
    ) -> None:
        seen, starts = [], []
        with bar(f"labels of {folder.path.name}, {split}", len(rows)) as advance:
            for row in rows.tolist():
                image = people.image(row)
                seen.append(self.reader.observe_image(image))
                if self.reader.starts is not None:
                    starts.append(self.reader.starts.start(image, whole(image)))
                advance(1)
        observations = stack(seen)
        start = stack_starts(starts) if starts else None
        options = self.config.labeling_options
        mode = best_mode(observations) if options.mode == "auto" else options.mode
        labeler = Labeler(
            annotator=self.annotator,
            predictors=load_predictors(),
            mode=mode,
            accept_mm=options.accept_mm,
            reject_mm=options.reject_mm,
            source=self.reader.source,
        )
        arrays = labeler.label(
            observations,
            lambda part: [] if start is None else [start.take(part)],
        )
        arrays = {name: value for name, value in arrays.items() if name != "vertices"}
        folder.write(
            split,
            arrays | {"row": rows},
            key,
            source=str(people.folder.resolve()),
            mode=mode,
            provenance=self.reader.provenance,
            **clip_summary(arrays),
        )


class AboutLabels(TypedDict):
    """How many labels have each status, and how wrong they are against the truth."""

    labels: dict[str, int]
    label_error_mm: float
    label_error_by_status_mm: dict[str, float]


def about_labels(body: BodyModel, labels: Relabeled, truth: PeopleDataset) -> AboutLabels:
    """How many labels have each status, and how wrong they are against the truth, in mm."""
    error = label_errors_mm(body, labels, truth)
    status = labels.columns["status"]
    by_status = {str(name): float(error[status == name].mean()) for name in np.unique(status)}
    return {
        "labels": counts(labels),
        "label_error_mm": float(error.mean()),
        "label_error_by_status_mm": by_status,
    }


@torch.no_grad()
def label_errors_mm(
    body: BodyModel, labels: PeopleDataset, truth: PeopleDataset
) -> Float[np.ndarray, " rows"]:
    """MPJPE of each label."""
    pairs = zip(_batches(labels), _batches(truth), strict=True)
    errors = [mpjpe(_joints(body, one), _joints(body, two)) for one, two in pairs]
    return torch.cat(errors).cpu().numpy() * MM_PER_METRE


def _batches(people: PeopleDataset) -> Iterator[Sample]:
    return (
        people.batch(part) for part in np.split(np.arange(len(people)), range(64, len(people), 64))
    )


def _joints(body: BodyModel, sample: Sample) -> Float[Tensor, "batch 14 3"]:
    sample = sample.to(body.v_template.device)
    vertices = body(sample.global_orient, sample.body_pose, sample.betas).vertices
    return centered(body.regress(vertices, EVALUATION_14), EVALUATION_14.root)
