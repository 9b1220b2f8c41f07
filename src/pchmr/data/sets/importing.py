"""`pchmr data import`: a data set in its own layout becomes the one folder that `--data` reads.

Part by part, so a stopped import goes on after its last whole part. People that cannot be used are
counted by reason and left out, never silently; where damage costs more than a few, the import is
refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy import ndarray

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.data.errors import InputError
from pchmr.data.sets import DATASETS
from pchmr.data.sets.cutting import DAMAGED, LONGEST, RESIZED, cut
from pchmr.data.sets.draft import MANIFEST, PROGRESS, Draft
from pchmr.data.sets.folder import GENDERED, read_manifest
from pchmr.data.sets.part import (
    DAMAGED_LABEL,
    MISSING,
    SPLITS,
    TEXTS,
    Reader,
    ReadOptions,
    Source,
)
from pchmr.data.sets.placing import Bodies
from pchmr.door import Json
from pchmr.runs.files import make_private

Progress = Callable[[int, int], None]
FORMAT = 1
HELD_OUT = 5  # every fifth scene of a set that tells no splits, or the last fifth of its only one
FAULTS = (DAMAGED, RESIZED, DAMAGED_LABEL)
HANDFUL, MOST_FAULTS = 5, 0.01
"""People that damage may cost an import: a few, and a share of all."""
Truth = Literal["gendered", "neutral"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """An import.

    Attributes:
        name: In `DATASETS`.
        source: Folder or file of the set.
        folder: To write.
        bodies: That make the truth.
        image_size: Side of the crops in pixels.
        options: How the set is read.
    """

    name: str
    source: Path
    folder: Path
    bodies: Bodies
    image_size: int
    options: ReadOptions

    @property
    def reader(self) -> Reader:
        """Of the set."""
        return DATASETS[self.name]

    @property
    def truth(self) -> Truth:
        """Whose meshes are true."""
        return "gendered" if self.bodies.by_gender else "neutral"

    def key(self) -> Json:
        """What decides what is written."""
        return {
            "format": FORMAT,
            "set": self.name,
            "source": str(self.source.resolve()),
            "truth": self.truth,
            "bodies": [body.sha256 for body in (self.bodies.neutral, *self._own())],
            "image_size": self.image_size,
            "every": self.options.every,
        }

    def _own(self) -> list[BodyModel]:
        return [self.bodies.by_gender[name] for name in sorted(self.bodies.by_gender)]


def import_set(job: Job, progress: Progress | None = None) -> Mapping[str, Any]:
    """Imports a set, or goes on with it; returns the manifest.

    Args:
        job: What to import.
        progress: Called with the number of parts done and of all parts.

    Raises:
        UserError: The source is not the set, a file of it is damaged, or nothing in it is usable.
    """
    if not job.bodies.neutral.has_regressor(EVALUATION_14):
        raise InputError(
            "the body has no regressor of the 14 joints: put J_regressor_h36m.npy beside its file"
        )
    key = job.key()
    if (job.folder / MANIFEST).is_file():
        found = read_manifest(job.folder)
        if found.get("key") != key:
            raise InputError(f"{job.folder} holds another import: give another folder")
        return found
    sources = job.reader.sources(job.source, job.options)
    make_private(job.folder, "the folder", marks=(PROGRESS,))
    draft = Draft.open(job.folder, key)
    fault = ""
    for number, source in enumerate(sources):
        if source.name not in draft.done:
            fault = _add(draft, job, source) or fault
        if progress is not None:
            progress(number + 1, len(sources))
    if not draft.num_rows:
        why = f"{dict(draft.all_left_out())} {fault}".rstrip()
        raise InputError(f"{job.source} holds no person that can be used: {why}")
    names, columns = _coded(draft)
    draft.finish(_manifest(draft, job, names, columns), columns)
    return read_manifest(job.folder)


def _add(draft: Draft, job: Job, source: Source) -> str:
    """Adds a part, unless nothing of it can be used yet; returns what was wrong with it.

    A part without a picture on disk is read anew by the next import: sets are unpacked bit by bit.
    """
    made = cut(source.read(), job.bodies, job.image_size, draft.put)
    found = draft.all_left_out() + made.left_out
    count = sum(found[reason] for reason in FAULTS)
    total = count + draft.num_rows + draft.num_put
    if count > HANDFUL + MOST_FAULTS * total:
        raise InputError(
            f"{job.source}: {count} of {total} people cannot be used, the first because: "
            f"{made.fault}"
        )
    if not made.columns and made.left_out[MISSING]:
        draft.skipped += made.left_out
    else:
        draft.add(source.name, made.columns, made.left_out)
    return made.fault


Names = Mapping[str, list[str]]
"""The words of every column of text."""
Coded = Mapping[str, ndarray]
"""Places of words among these, row by row."""


def _coded(draft: Draft) -> tuple[Names, Coded]:
    """The words of every column of text, and numbers in place of them."""
    names: dict[str, list[str]] = {}
    columns: dict[str, ndarray] = {}
    for name in TEXTS:
        letters = np.ascontiguousarray(draft.column(name)).view(f"S{LONGEST}")[:, 0]
        found, columns[name] = np.unique(letters, return_inverse=True)
        names[name] = [word.decode("utf-8", "replace") for word in found.tolist()]
    split = np.array(names["split"])[columns["split"]]
    split = _dealt(split, columns["scene"], draft.column("frame"))
    names["split"] = [name for name in SPLITS if name in split]
    columns["split"] = np.array([names["split"].index(name) for name in split.tolist()])
    return names, {name: values.astype(np.int32) for name, values in columns.items()}


def _manifest(draft: Draft, job: Job, names: Names, columns: Coded) -> Json:
    """What the folder says of itself."""
    reader = job.reader
    return {
        "key": job.key(),
        "about": {
            "set": job.name,
            "box": reader.box,
            "camera": reader.camera,
            "truth": GENDERED if _has_own_body(draft, job, names, columns) else "neutral body",
            "body_sha256": job.bodies.neutral.sha256[:16],
            "regressor": str(EVALUATION_14.regressor),
            "sampling": f"1 of {job.options.every}" if job.options.every else reader.sampling,
        },
        "licence": reader.licence,
        "page": reader.page,
        "body_sha256": [job.bodies.neutral.sha256, job.bodies.neutral.mesh_sha256],
        "image_size": job.image_size,
        "names": names,
        "counts": _counts(names, columns),
        "clients": _clients(names, columns),
    }


def _has_own_body(draft: Draft, job: Job, names: Names, columns: Coded) -> bool:
    """Whether the mesh of any row is of a body of its own gender."""
    own = [names["gender"].index(g) for g in job.bodies.by_gender if g in names["gender"]]
    return bool((np.isin(columns["gender"], own) & (draft.column("has_smpl") > 0)).any())


def _dealt(split: ndarray, scene: ndarray, frame: ndarray) -> ndarray:
    """Splits of rows that have none: every fifth scene, or the end of the only one, is held out."""
    open_rows = np.flatnonzero(split == "")
    if not len(open_rows):
        return split
    found = split.astype("<U10")
    found[open_rows] = "train"
    scenes = np.unique(scene[open_rows])
    if len(scenes) > 1:
        held = scenes[HELD_OUT - 1 :: HELD_OUT] if len(scenes) >= HELD_OUT else scenes[-1:]
        found[open_rows[np.isin(scene[open_rows], held)]] = "test"
    else:
        order = open_rows[np.argsort(frame[open_rows], kind="stable")]
        if len(order) > 1:
            found[order[-max(1, len(order) // HELD_OUT) :]] = "test"
    return found


def _counts(names: Names, columns: Coded) -> dict[str, int]:
    """Rows, sequences and people of every split, and sequences of every protocol."""
    found = {}
    for number, split in enumerate(names["split"]):
        rows = columns["split"] == number
        found[f"rows of {split}"] = int(rows.sum())
        found[f"sequences of {split}"] = len(np.unique(columns["sequence"][rows]))
        found[f"subjects of {split}"] = len(np.unique(columns["subject"][rows]))
    words = [set(word.split()) for word in names["protocol"]]
    for protocol in sorted(set().union(*words)):
        codes = [code for code, own in enumerate(words) if protocol in own]
        rows = np.isin(columns["protocol"], codes)
        found[f"rows of {protocol}"] = int(rows.sum())
        found[f"sequences of {protocol}"] = len(np.unique(columns["sequence"][rows]))
    return found


def _clients(names: Names, columns: Coded) -> dict[str, int]:
    """Rows of every scene: the clients of the natural partition."""
    sizes = np.bincount(columns["scene"], minlength=len(names["scene"])).tolist()
    return dict(zip(names["scene"], sizes, strict=True))
