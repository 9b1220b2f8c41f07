"""The labels that a person has before them: in what order, what was done, and how it is undone.

Whatever is done is on disk when it returns. Knows no server and no page.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray
from PIL import Image

from pchmr.annotate.corrections import SURE, refit, swapped
from pchmr.annotate.deposer import Annotator
from pchmr.annotate.labels import LabelFolder
from pchmr.config import SettingError
from pchmr.data.errors import InputError
from pchmr.data.labels import BYSTANDERS, DECIDED, GRAY, LabelRow, verdicts, without_bystanders
from pchmr.device.reel import Pictures
from pchmr.door.arrays import read_arrays

SHARED = ("joint_names", "keypoint_names")
"""Arrays that all frames of a clip have in common."""
QUALITY = 88
MOST_UNDO = 200


@dataclass
class Item:
    """A frame of a clip, and what is said of its label."""

    clip: str
    frame: int
    status: str
    decided: bool
    error_mm: float | None
    why: str
    calibrated: bool


@dataclass(frozen=True)
class Done:
    """An action that can be taken back: the frame's arrays and its decision before it."""

    row: int
    label: dict[str, ndarray] | None
    decision: str | None


@dataclass
class Desk:
    """Frames of a label folder, the worst first.

    Attributes:
        folder: Of the labels.
        annotator: Body and prior that refit.
        items: In the order in which they are shown, which does not change while one works.
    """

    folder: LabelFolder
    annotator: Annotator
    items: list[Item]
    _done: list[Done] = field(default_factory=list)
    _sources: Pictures = field(default_factory=Pictures)
    _pictures: dict[int, bytes] = field(default_factory=dict)
    _clips: dict[str, dict[str, ndarray]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: LabelFolder, annotator: Annotator) -> "Desk":
        """Reads what the manifest and the labels say."""
        items: list[Item] = []
        for clip, row in folder.rows.items():
            if "failed" in row:
                continue
            if not folder.is_whole(clip):
                raise SettingError(
                    f"labels of {clip} are damaged: run `pchmr annotate` again first, or delete "
                    f"them with `pchmr labels {folder.path} --delete {clip}`"
                )
            arrays = _read(folder, clip)
            items += [_item(clip, frame, arrays, row) for frame in range(len(arrays["status"]))]
        return cls(folder, annotator, sorted(items, key=badness))

    def __len__(self) -> int:
        return len(self.items)

    @property
    def can_undo(self) -> bool:
        """Whether anything was done since the desk was opened."""
        return bool(self._done)

    def label(self, row: int) -> dict[str, ndarray]:
        """Arrays of a frame, first axis 1 but for those that a clip shares."""
        item = self.items[row]
        arrays = self._read(item.clip)
        return {n: v if n in SHARED else v[[item.frame]] for n, v in arrays.items()}

    def _read(self, clip: str) -> dict[str, ndarray]:
        """Arrays of a clip; those of one are kept at hand."""
        if clip not in self._clips:
            self._clips = {clip: _read(self.folder, clip)}
        return self._clips[clip]

    def _write(self, item: Item, label: dict[str, ndarray], action: str, **more: object) -> None:
        """Puts other arrays of a frame into those of its clip, in memory and on disk."""
        arrays = _with(self._read(item.clip), item.frame, label)
        self.folder.revise(item.clip, arrays, action, frame=item.frame, **more)
        self._clips = {item.clip: arrays}

    def picture(self, row: int) -> bytes:
        """The frame as a JPEG without metadata, bystanders gray; plain gray where it is gone."""
        if row not in self._pictures:
            stream = io.BytesIO()
            Image.fromarray(self._image(row)).save(stream, "JPEG", quality=QUALITY)
            self._pictures = {row: stream.getvalue()}
        return self._pictures[row]

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of the frame."""
        with Image.open(io.BytesIO(self.picture(row))) as image:
            return image.size

    def _image(self, row: int) -> ndarray:
        item, label = self.items[row], self.label(row)
        about = self.folder.rows[item.clip]
        try:
            image = self._sources.frame(about, item.frame)
        except InputError as error:
            item.why = f"{error}; {item.why}" if str(error) not in item.why else item.why
            center = label["intrinsics"][0, :2, 2]
            width, height = (max(round(2 * float(value)), 16) for value in center)
            return np.full((height, width, 3), GRAY, np.uint8)
        hidden = label.get(BYSTANDERS)
        return image if hidden is None else without_bystanders(image, hidden[0])

    def decide(self, row: int, verdict: str) -> int:
        """Keeps what the person says of a frame; returns the row."""
        item = self.items[row]
        before = Done(row, None, self._decision(item))
        self.folder.note(item.clip, verdict, frame=item.frame, before=item.status)
        self.folder.decide(item.clip, [item.frame], verdict)
        self._remember(before)
        return self._renew(row)

    def swap(self, row: int) -> int:
        """Exchanges left and right of the keypoints, and refits."""
        label = self.label(row)
        names = label["keypoint_names"].tolist()
        wanted = swapped(label["keypoints_2d"][0], names)[None]
        return self._corrected(row, label, wanted, "swap", turned=True)

    def refit(self, row: int) -> int:
        """Refits the body to the keypoints as they are."""
        label = self.label(row)
        return self._corrected(row, label, label["keypoints_2d"], "refit")

    def drag(self, row: int, keypoint: int, x: float, y: float) -> int:
        """Puts a keypoint elsewhere, pixels, and refits."""
        label = self.label(row)
        wanted = label["keypoints_2d"].copy()
        before = wanted[0, keypoint, :2].tolist()
        wanted[0, keypoint] = (x, y, SURE)
        name = str(label["keypoint_names"][keypoint])
        more = {"keypoint": name, "from": [round(v, 1) for v in before if v == v], "to": [x, y]}
        return self._corrected(row, label, wanted, "drag", moved=(keypoint,), **more)

    def undo(self, row: int) -> int:
        """Takes the last action back; returns its row."""
        if not self._done:
            raise SettingError("nothing to undo")
        done = self._done[-1]
        item = self.items[done.row]
        if done.label is not None:
            self._write(item, done.label, "undo")
        else:
            self.folder.note(item.clip, "undo", frame=item.frame, before=item.status)
        self.folder.undecide(item.clip, item.frame, done.decision)
        self._done.pop()
        return self._renew(done.row)

    def _corrected(
        self,
        row: int,
        label: dict[str, ndarray],
        wanted: ndarray,
        action: str,
        moved: Sequence[int] = (),
        turned: bool = False,
        **more: object,
    ) -> int:
        item = self.items[row]
        changed = {**label, "keypoints_2d": wanted.astype(label["keypoints_2d"].dtype)}
        found = refit(self.annotator, changed, self.size(row), moved=moved, turned=turned)
        if not np.isfinite(found["vertices"]).all() or found["vertices"][..., 2].min() <= 0:
            raise SettingError("the body cannot be fitted to that: undo, or move another keypoint")
        found["keypoints_2d"] = changed["keypoints_2d"]
        before = Done(row, label, self._decision(item))
        self._write(item, found, action, **more)
        self._remember(before)
        return self._renew(row)

    def _decision(self, item: Item) -> str | None:
        return self.folder.rows[item.clip].get(DECIDED, {}).get(str(item.frame))

    def _remember(self, done: Done) -> None:
        """Keeps what was done, once it is on disk."""
        self._done.append(done)
        del self._done[:-MOST_UNDO]

    def _renew(self, row: int) -> int:
        item = self.items[row]
        arrays, about = self._read(item.clip), self.folder.rows[item.clip]
        self.items[row] = _item(item.clip, item.frame, arrays, about)
        return row


def badness(item: Item) -> tuple[bool, bool, float]:
    """Sorts frames: what nobody decided first, then unknown errors, then the largest."""
    known = item.error_mm is not None
    return item.decided, known, -(item.error_mm or 0.0)


def _item(clip: str, frame: int, arrays: dict[str, ndarray], row: LabelRow) -> Item:
    error = float(arrays["predicted_error_mm"][frame])
    said = [str(arrays[name][frame]) for name in ("reason", "doubt") if name in arrays]
    calibrated = bool(arrays["calibrated"][frame]) if "calibrated" in arrays else True
    return Item(
        clip=clip,
        frame=frame,
        status=str(verdicts(arrays["status"], row)[frame]),
        decided=str(frame) in row.get(DECIDED, {}),
        error_mm=round(error, 1) if math.isfinite(error) else None,
        why="; ".join(dict.fromkeys(words for words in said if words)),
        calibrated=calibrated,
    )


def _read(folder: LabelFolder, clip: str) -> dict[str, ndarray]:
    return read_arrays(folder.path / folder.rows[clip]["labels"])


def _with(arrays: dict[str, ndarray], frame: int, label: dict[str, ndarray]) -> dict[str, ndarray]:
    """The arrays of a clip with those of one frame in place of its own."""
    out = dict(arrays)
    for name, value in label.items():
        if name in SHARED:
            continue
        kind = np.promote_types(arrays[name].dtype, value.dtype)
        out[name] = arrays[name].astype(kind)
        out[name][frame] = value[0]
    return out
