"""Zip archives whose members are counted, sized and compared with the file before one is read."""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

from pchmr.door.files import opened
from pchmr.door.limits import (
    ARCHIVE_BYTES,
    ARCHIVE_DIRECTORY_BYTES,
    ARCHIVE_FREE_BYTES,
    ARCHIVE_MEMBERS,
    ARCHIVE_RATIO,
    MIB,
)

END, END_64, LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
LONGEST_END = 65_535 + 22 + 20 + 56
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def opened_archive(
    path: Path, most_bytes: int, sha256: str | None = None
) -> Iterator[dict[str, "Member"]]:
    """The members of an archive by name.

    Args:
        path: Of the archive.
        most_bytes: All members together, unpacked.
        sha256: Hash that the file must have.

    Raises:
        FileError: It is no archive, or holds more than it may.
    """
    with opened(path, ARCHIVE_BYTES, sha256) as file:
        size = file.seek(0, 2)
        _check_directory(file, size)
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, size, most_bytes)
            yield {info.filename: Member(archive, info) for info in members}


class Member:
    """A member of an archive.

    Attributes:
        num_bytes: Unpacked.
    """

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._archive, self._info = archive, info
        self.num_bytes = info.file_size

    @contextmanager
    def opened(self) -> Iterator[BufferedIOBase]:
        """The content as a file."""
        with self._archive.open(self._info) as file:
            yield file  # type: ignore[misc]

    def read(self) -> bytes:
        """The content."""
        with self.opened() as file:
            content = file.read(self.num_bytes + 1)
        if len(content) != self.num_bytes:
            raise ValueError(f"member {self._info.filename} is cut off")
        return content


def _check_directory(file: BufferedIOBase, size: int) -> None:
    """Refuses a list of members so long that reading it would take the memory."""
    file.seek(max(0, size - LONGEST_END))
    tail = file.read(LONGEST_END)
    at = tail.rfind(END)
    if at < 0 or len(tail) < at + 22:
        raise ValueError("is no archive")
    sizes = [int(struct.unpack_from("<I", tail, at + 12)[0])]
    wide = at - 20 - 56
    if wide >= 0 and tail[at - 20 : at - 16] == LOCATOR_64 and tail[wide : wide + 4] == END_64:
        sizes = [int(struct.unpack_from("<Q", tail, wide + 40)[0])]
    if max(sizes) > ARCHIVE_DIRECTORY_BYTES:
        raise ValueError("archive with too many members")


def _check_members(members: list[zipfile.ZipInfo], size: int, most_bytes: int) -> None:
    if len(members) > ARCHIVE_MEMBERS:
        raise ValueError(f"archive with more than {ARCHIVE_MEMBERS} members")
    if len({info.filename for info in members}) != len(members):
        raise ValueError("archive that holds a name twice")
    if any(info.compress_type not in METHODS or info.flag_bits & 1 for info in members):
        raise ValueError("archive with members packed in a way that we do not read")
    total = sum(info.file_size for info in members)
    if total > most_bytes:
        raise ValueError(f"archive unpacks to more than {most_bytes // MIB} MiB")
    if total > max(ARCHIVE_FREE_BYTES, ARCHIVE_RATIO * size):
        raise ValueError(f"archive unpacks to more than {ARCHIVE_RATIO} times its size")
