"""An imported data set, as `--data` reads it: JPEG crops with a margin, labels left on disk.

A folder holds `images.bin` (crops one after another), `labels.safetensors` (columns) and
`imported.json` (what was imported, names of people, scenes and actions, counts, hashes). Labels
and manifest are checked whenever the folder is opened, crops by `pchmr data check`.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from pchmr.body import BodyModel, load_body
from pchmr.body.files import BodyFileError, with_genders
from pchmr.data.errors import InputError
from pchmr.data.jpeg import decoded
from pchmr.data.sample import Sample, gender_codes
from pchmr.data.sets.draft import IMAGES, LABELS, MANIFEST, PROGRESS, seal
from pchmr.data.sets.part import TEXTS
from pchmr.data.sets.placing import DETAILS, FLAGS
from pchmr.data.sets.placing import LABELS as LABEL_SHAPES
from pchmr.door import FileError, Json, read_json
from pchmr.door.limits import GIB
from pchmr.door.tensors import mapped_tensors

MARGIN_SHARE = 8  # of the crop's side that is stored beyond each of its edges
ANEW = "import it anew with `pchmr data import`"
GENDERED = "gendered body"
NEEDS_GENDERS = (
    "was imported with the truth of gendered bodies: give the --body FOLDER that holds the same "
    "ones, or import it anew with --truth neutral"
)


def margin_of(image_size: int) -> int:
    """Pixels stored beyond each edge of a crop."""
    return -(-image_size // MARGIN_SHARE)


def is_imported(folder: Path) -> bool:
    """Whether `pchmr data import` wrote a folder, to its end or not."""
    return (folder / MANIFEST).is_file() or (folder / PROGRESS).is_file()


def is_held_out_only(folder: Path | None) -> bool:
    """Whether a folder is of an import that holds nobody to train on, as EMDB does."""
    if folder is None or not (folder / MANIFEST).is_file():
        return False
    return "train" not in read_manifest(folder)["names"]["split"]


def read_manifest(folder: Path) -> Json:
    """What was imported.

    Raises:
        InputError: The import is unfinished or the manifest damaged.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} is not imported to its end: give the same command again")
    try:
        found = read_json(folder / MANIFEST, most_bytes=GIB)
    except FileError as error:
        raise InputError(f"{error}: {ANEW}") from None
    if not isinstance(found, dict) or found.get("seal") != seal(found):
        raise InputError(f"{folder / MANIFEST} is damaged: {ANEW}")
    return found


def is_gendered(about: Mapping[str, str]) -> bool:
    """Whether a set says of itself that bodies of each person's own gender made its truth."""
    return about.get("truth") == GENDERED


def load_body_of(data: Path | None, path: Path | None) -> BodyModel:
    """The body of a run, with those of women and men where `--data` was imported with them.

    Raises:
        InputError: They are not at hand.
        BodyFileError: A file cannot be read.
    """
    body = load_body(path)
    if data is None or not (data / MANIFEST).is_file():
        return body
    if not is_gendered(read_manifest(data)["about"]):
        return body
    try:
        return with_genders(body, path) if path else body
    except BodyFileError as error:
        raise InputError(f"{data} {NEEDS_GENDERS}: {error}") from None


class Columns(dict[str, np.ndarray]):
    """Columns that are read, and spelled out, when they are asked for, so that a million rows of
    names need no memory. Copies hold the columns themselves.
    """

    def __init__(
        self,
        names: Mapping[str, Sequence[str]],
        arrays: Mapping[str, np.ndarray],
        rows: Int[np.ndarray, " rows"],
    ) -> None:
        super().__init__(dict.fromkeys(arrays, np.zeros(0)))
        self._names, self._arrays, self._rows = names, arrays, rows

    def __getitem__(self, name: str) -> np.ndarray:
        """A column of all rows."""
        values = self._arrays[name][self._rows]
        if name not in self._names:
            return np.asarray(values)
        return np.array(self._names[name], dtype=np.str_)[values]

    def at(self, name: str, row: int) -> Any:
        """The value of one row; nothing else is spelled out."""
        value = self._arrays[name][self._rows[row]]
        return self._names[name][int(value)] if name in self._names else value

    def get(self, name: str, default: Any = None) -> Any:
        """A column, or the default where there is no such column."""
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        """Names; said here so that a copy asks for every column."""
        return super().__iter__()

    def __or__(self, other: Any) -> Any:
        """All columns, and others."""
        return {**self, **other}

    def items(self) -> Any:
        """Names and columns."""
        return {name: self[name] for name in self}.items()

    def values(self) -> Any:
        """All columns."""
        return [self[name] for name in self]


class ImportedPeople:
    """People of a split of an imported set; see `PeopleDataset`.

    Attributes:
        image_size: Side of the crops in pixels.
        content_hash: Over labels, crops, split and side.
        columns: `COLUMNS`, and `sequence`, `gender`, `protocol`.
        about: Set, box, body, truth and regressor, for the rows of scores.
        rows: Of the folder.
    """

    is_private = True

    def __init__(
        self,
        folder: Path,
        split: str | None,
        *,
        body: BodyModel | None = None,
        image_size: int | None = None,
    ) -> None:
        """Opens a split; nothing of it is read but the columns that tell who is in it.

        Args:
            folder: Of an import.
            split: "train", "validation" or "test"; None is all of them.
            body: That the run uses; the import must have used it too.
            image_size: Side of the crops in pixels; the imported one without it.

        Raises:
            InputError: The folder is damaged or unfinished, holds no row of the split, or was
                imported with another body.
        """
        self.folder, self._split = folder, split
        self.manifest = read_manifest(folder)
        self._require_body(body)
        self._stored = int(self.manifest["image_size"])
        self.image_size = image_size or self._stored
        self._arrays = _checked(folder, self.manifest)
        self._jpeg = np.memmap(folder / IMAGES, dtype=np.uint8, mode="r")
        self.rows = self._of(split)
        self.columns = self._columns()
        key = f"{self.manifest['files']}{split}{self.image_size}"
        self.content_hash = hashlib.sha256(key.encode()).hexdigest()
        self.about: Mapping[str, str] = self.manifest["about"]
        self._gender_of = None
        if is_gendered(self.about):
            named = self.manifest["names"]["gender"]
            self._gender_of = gender_codes(np.array([name or "neutral" for name in named]))

    def _require_body(self, body: BodyModel | None) -> None:
        known = self.manifest["body_sha256"]
        if body is not None and body.sha256 not in known and body.mesh_sha256 not in known:
            raise InputError(
                f"{self.folder} was imported with another body: give its --body, or {ANEW} --body"
            )
        if body is None or not is_gendered(self.manifest["about"]):
            return
        own = [body.by_gender[name].sha256 for name in sorted(body.by_gender)]
        if own != self.manifest["key"]["bodies"][1:]:
            raise InputError(f"{self.folder} {NEEDS_GENDERS}")

    def _of(self, split: str | None) -> Int[np.ndarray, " rows"]:
        names = self.manifest["names"]["split"]
        if split is None:
            return np.arange(len(self._arrays["frame"]))
        rows = np.flatnonzero(self._arrays["split"] == _place(names, split))
        if not len(rows):
            raise InputError(
                f"{self.folder} holds no people of the split {split}, only of {', '.join(names)}"
            )
        return rows

    def _columns(self) -> "Columns":
        names = {name: self.manifest["names"][name] for name in TEXTS}
        return Columns(names, {name: self._arrays[name] for name in (*TEXTS, "frame")}, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the folder itself: pictures do not travel with the object."""
        return partial(ImportedPeople, image_size=self.image_size), (self.folder, self._split)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the pictures and labels of these rows."""
        whole = sum((self.folder / name).stat().st_size for name in (IMAGES, LABELS))
        return round(whole * len(self) / max(len(self._arrays["frame"]), 1))

    def detail(self, name: str) -> np.ndarray:
        """One of `DETAILS` or `FLAGS`, or a label, of every row."""
        return np.asarray(self._arrays[name])[self.rows]

    def jpeg(self, row: int) -> bytes:
        """The stored crop of a row, with its margin."""
        at = int(self.rows[row])
        start = int(self._arrays["end"][at - 1]) if at else 0
        return self._jpeg[start : int(self._arrays["end"][at])].tobytes()

    def image(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """8-bit RGB crop of a row."""
        return self._pixels(row, 0).permute(1, 2, 0).numpy()

    def _pixels(self, row: int, margin: int) -> UInt8[Tensor, "3 side side"]:
        """The crop of a row and so many pixels beyond each of its edges."""
        beyond = margin_of(self._stored)
        try:
            stored = decoded(self.jpeg(row), self._stored + 2 * beyond)
        except ValueError:
            raise InputError(f"{self.folder / IMAGES} is damaged at row {row}: {ANEW}") from None
        zoom = self._stored / self.image_size
        cut = beyond - margin * zoom
        if zoom == 1:
            inner = slice(int(cut), stored.shape[-1] - int(cut))
            return stored[:, inner, inner]
        side = self.image_size + 2 * margin
        box = (cut, cut, stored.shape[-1] - cut, stored.shape[-1] - cut)
        picture = Image.fromarray(stored.permute(1, 2, 0).numpy())
        picture = picture.resize((side, side), Image.Resampling.BILINEAR, box=box)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, in that order; decodes only these."""
        return self._sample(indices, 0)

    def wide_batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The same, whose pictures show what is stored beyond the crops' edges."""
        beyond = margin_of(self._stored)
        return self._sample(indices, math.floor(beyond * self.image_size / self._stored))

    def _sample(self, indices: Sequence[int] | np.ndarray, margin: int) -> Sample:
        rows = np.asarray(indices, dtype=np.int64)
        pictures = torch.stack([self._pixels(row, margin) for row in rows.tolist()])
        at = self.rows[rows]
        gender = None
        if self._gender_of is not None:
            gender = torch.from_numpy(self._gender_of[self._arrays["gender"][at]])
        labels = {name: torch.from_numpy(self._arrays[name][at]) for name in LABEL_SHAPES}
        zoom = self.image_size / self._stored
        labels["intrinsics"] = labels["intrinsics"] * torch.tensor([[zoom], [zoom], [1.0]])
        known = {name: torch.from_numpy(self._arrays[name][at] > 0) for name in FLAGS}
        return Sample(
            images=pictures.float().div_(255),
            **labels,
            **known,
            index=torch.from_numpy(rows),
            gender=gender,
        )


def _place(names: Sequence[str], name: str) -> int:
    return list(names).index(name) if name in names else -1


def _checked(folder: Path, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns, once they are those that were written."""
    arrays = mapped_tensors(folder / LABELS)
    count = manifest["num_rows"]
    shapes = {**LABEL_SHAPES, **DETAILS, **dict.fromkeys((*FLAGS, *TEXTS, "frame", "end"), ())}
    fits = all(n in arrays and arrays[n].shape == (count, *s) for n, s in shapes.items())
    with (folder / LABELS).open("rb") as file:
        same = hashlib.file_digest(file, "sha256").hexdigest() == manifest["files"][LABELS]
    size = (folder / IMAGES).stat().st_size if (folder / IMAGES).is_file() else -1
    if not fits or not same or not count or size != int(arrays["end"][-1]):
        raise InputError(f"{folder} is damaged: {ANEW}")
    return arrays
