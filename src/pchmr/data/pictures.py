"""Which pictures a path holds, what is left out, and under which names results stand.

`predict` and `annotate` list and name alike. Nothing here opens a picture.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pchmr.data.animations import is_animation
from pchmr.data.errors import InputError
from pchmr.data.photos import HEIF_SUFFIXES, NEEDS_HEIF, photo_suffixes
from pchmr.data.videos import VIDEO_DEMUXERS, is_video

LONGEST_NAME = 160  # bytes, which leaves room for suffixes and numbers in a file's 255
NAMED = 3  # files of a kind that are left out and named


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What there is to look at.

    Attributes:
        files: Photos of a folder by name, or the one photo or video.
        names: Of their results: different in any case of letters, and safe as file names.
        left_out: One line about the files of the folder that are not read; may be empty.
    """

    files: tuple[Path, ...]
    names: tuple[str, ...]
    left_out: str = ""


def find_pictures(path: Path) -> Pictures:
    """The photos of a folder (hidden files and sub-folders not), or one photo or video.

    Raises:
        InputError: There is nothing to read; the message says which suffixes are right.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: give a photo, a folder of photos or a video")
    if not path.is_dir():
        _require_known(path)
        return Pictures(files=(path,), names=tuple(result_names([path])))
    inside = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".")
    known = photo_suffixes()
    photos = [p for p in inside if p.suffix.lower() in known]
    left_out = left_out_line([p for p in inside if p not in set(photos)])
    if not photos:
        wanted = f"no photo in folder {path}: put files ending in {', '.join(known)} there"
        raise InputError(f"{wanted}; {left_out}" if left_out else wanted)
    return Pictures(files=tuple(photos), names=tuple(result_names(photos)), left_out=left_out)


def _require_known(path: Path) -> None:
    """Refuses a file whose suffix says that it is neither a photo nor a video."""
    suffix = path.suffix.lower()
    if suffix in HEIF_SUFFIXES and suffix not in photo_suffixes():
        raise InputError(f"{path} is HEIC: {NEEDS_HEIF}, or save it as JPEG")
    if is_video(path) or is_animation(path):
        return
    if suffix and suffix not in photo_suffixes():
        raise InputError(
            f"{path} ends in {suffix}: give a photo ({', '.join(photo_suffixes())}) or a video "
            f"({', '.join(VIDEO_DEMUXERS)}, .gif)"
        )


def left_out_line(files: list[Path]) -> str:
    """How many files of which kind are left out, some of their names, and the cure."""
    by_suffix: dict[str, list[str]] = {}
    for file in files:
        by_suffix.setdefault(file.suffix.lower() or "no suffix", []).append(file.name)
    parts = []
    for suffix, names in sorted(by_suffix.items()):
        shown = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
        parts.append(f"{len(names)} {suffix} ({shown}{_cure(suffix)})")
    return f"{len(files)} left out, not read: {', '.join(parts)}" if parts else ""


def _cure(suffix: str) -> str:
    if suffix in HEIF_SUFFIXES:
        return f": {NEEDS_HEIF}"
    return ": give videos one by one" if suffix in VIDEO_DEMUXERS else ""


def result_names(files: list[Path]) -> list[str]:
    """A name for the results of each file: its stem where no other has it, else its whole name.

    What is taken even so is numbered. Names that differ only in case or in the form of an accent
    count as the same, as they are on many disks.
    """
    stems = [safe_name(file.stem) for file in files]
    times = Counter(map(_folded, stems))
    taken = {_folded(stem) for stem in stems if times[_folded(stem)] == 1}
    names = []
    for file, stem in zip(files, stems, strict=True):
        if times[_folded(stem)] > 1:
            stem = _free(safe_name(file.name.replace(".", "_")), taken)
            taken.add(_folded(stem))
        names.append(stem)
    return names


def _free(wanted: str, taken: set[str]) -> str:
    number, name = 1, wanted
    while _folded(name) in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def safe_name(stem: str) -> str:
    """The stem as a file name on any disk: no leading dot or dash, no path, no control characters.

    Brackets, spaces and letters of any script stay.
    """
    text = stem.encode("utf-8", "replace").decode()
    text = "".join("_" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    text = re.sub(r'[/\\:*?"<>|\u202a-\u202e\u2066-\u2069]', "_", text)
    text = re.sub(r"^[.\-\s]+|[.\s]+$", "_", text)
    return text.encode()[:LONGEST_NAME].decode("utf-8", "ignore") or "_"
