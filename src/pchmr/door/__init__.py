"""The one door for foreign bytes: sizes first, regular files only, plain values out.

Every reader of the package comes through here. What goes wrong is a `FileError`, one line; the
rooms above add the cure in their own errors. Nothing here knows what a file is for.
"""

from pchmr.door.files import FileError, inside, read_bytes, read_text, require_file
from pchmr.door.text import Json, parse_json, read_json, read_json_lines

__all__ = [
    "FileError",
    "Json",
    "inside",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_json_lines",
    "read_text",
    "require_file",
]
