"""Which held-out people a published protocol scores, and which of their joints it takes for true.

Sources: Human3.6M protocol 2 as in HMR (Kanazawa et al. 2018), 3DPW as in METRO (14 joints), EMDB
(Kaufmann et al. 2023) with SMPL's 24 joints about the pelvis.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from pchmr.body.files import gender_name
from pchmr.body.joints import EVALUATION_14, SMPL_24, JointSet
from pchmr.config import SettingError, require
from pchmr.data.sample import PeopleDataset, Sample, Subset, gender_codes

PROTOCOL_2_SUBJECTS, FRONTAL_CAMERA = ("S9", "S11"), "60457274"

JointTruth = Literal["mesh", "labels", "paper"]
"""`mesh`: joints regressed from the true mesh, labels where there is none. `labels`: labeled joints
where there are any. `paper`: only those, averaged as the published code does (`paper_means`)."""


@dataclass(frozen=True)
class Judged(Subset):
    """People, which of their joints count, and which scores take for true.

    `gendered` ones have meshes of the bodies that the column `gender` names, whatever their labels
    were made with.
    """

    joint_truth: JointTruth = "mesh"
    joint_set: JointSet = EVALUATION_14
    gendered: bool = False

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, counted within the subset."""
        sample = super().batch(indices)
        if not self.gendered:
            return sample
        return replace(sample, gender=torch.from_numpy(self._genders[np.asarray(indices)]))

    @cached_property
    def _genders(self) -> np.ndarray:
        labels = self.columns.get("gender")
        if labels is None:
            raise SettingError("gendered truth needs a data set with the column gender")
        return gender_codes(np.array([gender_name(label) for label in labels]))

    @property
    def content_hash(self) -> str:
        """That of the people: they are all there."""
        return self.dataset.content_hash


def gendered(people: PeopleDataset) -> Judged:
    """The same people against meshes of each one's own gender, whichever joints were true."""
    joint_set = people.joint_set if isinstance(people, Judged) else EVALUATION_14
    return Judged(people, np.arange(len(people)), "mesh", joint_set, gendered=True)


def by_protocol(
    people: PeopleDataset, protocol: str, joint_truth: Literal["labels", "paper"] | None
) -> PeopleDataset:
    """The held-out people as an evaluation is asked to score them; joints of the mesh by default.

    Raises:
        SettingError: The people hold none that the protocol or the truth wants.
    """
    people = PROTOCOLS[protocol](people)
    joint_set = JOINT_SETS.get(protocol, EVALUATION_14)
    if joint_truth is None and joint_set is EVALUATION_14:
        return people
    require(
        joint_truth is None or joint_set is EVALUATION_14,
        f"--joint-truth: labels hold 14 joints, {protocol} scores {len(joint_set)}; leave it out",
    )
    return Judged(people, np.arange(len(people)), joint_truth or "mesh", joint_set)


def protocol_2(people: PeopleDataset) -> Subset:
    """Protocol 2 of Human3.6M: subjects S9 and S11 in the frontal camera (column `scene`).

    Raises:
        SettingError: The data set holds no such row.
    """
    subject, camera = (people.columns[name].astype(str) for name in ("subject", "scene"))
    rows = np.flatnonzero(np.isin(subject, PROTOCOL_2_SUBJECTS) & (camera == FRONTAL_CAMERA))
    require(
        len(rows) > 0,
        "--protocol h36m-p2: no person of S9 or S11 in camera 60457274; is this Human3.6M?",
    )
    return Subset(people, rows)


def _marked(name: str) -> Callable[[PeopleDataset], Subset]:
    """People whose column `protocol` names a protocol."""

    def of(people: PeopleDataset) -> Subset:
        marks = people.columns.get("protocol", np.zeros(len(people), dtype="<U1"))
        rows = np.array([k for k, mark in enumerate(marks.tolist()) if name in mark.split()], int)
        require(
            len(rows) > 0,
            f"--protocol {name}: no person of it is held out; give the --data of its import",
        )
        return Subset(people, rows)

    return of


PROTOCOLS: dict[str, Callable[[PeopleDataset], PeopleDataset]] = {
    "all": lambda people: people,
    "h36m-p2": protocol_2,
    "3dpw": _marked("3dpw"),
    "emdb1": _marked("emdb1"),
    "emdb2": _marked("emdb2"),
}
JOINT_SETS: dict[str, JointSet] = {"emdb1": SMPL_24, "emdb2": SMPL_24}
"""Joints of protocols that do not score the evaluation joints."""
