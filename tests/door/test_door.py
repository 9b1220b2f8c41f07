"""Sizes first, regular files only, plain values out; everything else is one line."""

import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pchmr.config import UserError
from pchmr.door import FileError, inside, parse_json, read_json, read_json_lines, read_text
from pchmr.door.arrays import read_array, read_arrays
from pchmr.door.confined import Limits, stream
from pchmr.door.tensors import read_tensors


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link", "."):
        with pytest.raises(FileError, match=r"is no regular file|s a directory"):
            read_text(tmp_path / name)
    with pytest.raises(FileError, match="No such file"):
        read_text(tmp_path / "absent")
    with pytest.raises(FileError):
        read_text(Path("a\0b"))


def test_sizes_come_first(tmp_path: Path) -> None:
    with open(tmp_path / "big", "wb") as file:
        file.truncate(1 << 40)
    for read in (read_text, read_json, read_arrays, read_array, read_tensors):
        with pytest.raises(FileError, match="larger than"):
            read(tmp_path / "big")


def test_names_stay_inside_their_folder(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "room" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "room" / "own").write_text("y")
    assert inside(tmp_path / "room", "own").read_text() == "y"
    for name in ("../secret", "link", "/etc/passwd", "", "a\0", "a\nb", None, 3):
        with pytest.raises(FileError):
            inside(tmp_path / "room", name)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 70 + "]" * 70,
        '{"a":' * 500 + "1" + "}" * 500,
        "1" * 5000,
        "-" + "9" * 25,
        '"\\ud800"',
        '{"\\udfff": 1}',
        "",
        "{",
        "nul",
    ],
)
def test_json_that_no_program_could_take_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FileError, match="is no JSON we read"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n' + (text or "x") + "\n")
    with pytest.raises(FileError, match="line 2 is damaged"):
        read_json_lines(tmp_path / "x.jsonl")


def test_plain_json_passes() -> None:
    value = {"a": [1, -2.5, None, True, "\U0001f600"], "b": {"c": 2**63}}
    assert parse_json(json.dumps(value)) == value


ARRAYS = {
    "whole": np.arange(6, dtype=np.int32).reshape(2, 3),
    "big endian": np.arange(3, dtype=">f8"),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "text": np.array(["a", "bc"]),
    "bytes": np.array([b"a"]),
    "one": np.float32(2),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 4), dtype=np.float16),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_in_the_own_byte_order(tmp_path: Path, save) -> None:
    save(tmp_path / "x.npz", **ARRAYS)
    found = read_arrays(tmp_path / "x.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype.isnative
    assert set(read_arrays(tmp_path / "x.npz", ["one", "absent"])) == {"one"}


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}\n"


def member(header: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


@pytest.mark.parametrize(
    "content",
    [
        member(HEADER.format("<f8", "(99999999999999,)")),
        member(HEADER.format("<f8", "(0, 99999999999999)")),
        member(HEADER.format("<f8", "(4294967296, 4294967296)")),
        member(HEADER.format("|O", "(1,)"), b"\x80\x02N."),
        member(HEADER.format("|V8", "(1,)"), bytes(8)),
        member(HEADER.format("<U0", "(99999999,)")),
        member(HEADER.format("<U1", "(1,)"), b"\xff\xff\xff\x7f"),
        member(HEADER.format("<U1", "(1,)"), b"\x00\xd8\x00\x00"),
        member(HEADER.format("<f8", "(1,)"), bytes(7)),
        member(HEADER.format("<f8", "(1,)"), bytes(9)),
        member(HEADER.format("<f8", "(" + "1," * 20 + ")"), bytes(8)),
        member("(" * 9000),
        member("-" * 9000 + "1"),
        b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\xff",
        b"",
    ],
)
def test_array_headers_that_lie_are_refused(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(FileError, match="array a: "):
        read_arrays(tmp_path / "x.npz")
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(FileError):
        read_array(tmp_path / "x.npy")


def test_archives_that_inflate_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(20_000_000))
    with pytest.raises(FileError, match="100 times its size"):
        read_arrays(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", a=np.zeros(1000))
    with pytest.raises(FileError, match="unpacks to more than 0 MiB"):
        read_arrays(tmp_path / "y.npz", most_bytes=4000)
    with zipfile.ZipFile(tmp_path / "z.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", b"")
    with pytest.raises(FileError, match="packed in a way"):
        read_arrays(tmp_path / "z.npz")


def test_a_file_of_another_hash_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(FileError, match="has changed since it was written"):
        read_arrays(tmp_path / "x.npz", sha256="0" * 64)


def safetensors(header: object, content: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def about(shape: list[int], start: int, stop: int, kind: str = "F32") -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors({"a": about([1], 0, 4), "b": about([1], 0, 4)}, bytes(4)),
        safetensors({"a": about([1], 0, 4), "b": about([1], 8, 12)}, bytes(12)),
        safetensors({"a": about([1 << 40], 0, 4)}, bytes(4)),
        safetensors({"a": about([0, 1 << 60], 0, 0)}),
        safetensors({"a": about([-1, -1], 0, 4)}, bytes(4)),
        safetensors({"a": about([1], 0, 4)}, bytes(3)),
        safetensors({"a": about([1], 0, 4, "X9")}, bytes(4)),
        safetensors([1]),
        b"\xff" * 8,
        b"",
    ],
)
def test_tensor_headers_that_lie_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(FileError):
        read_tensors(tmp_path / "x.safetensors")


def test_tensors_come_back(tmp_path: Path) -> None:
    state = {"a": torch.arange(3.0), "b": torch.zeros(2, 0), "c": torch.tensor(1)}
    save_file(state, tmp_path / "x.safetensors", metadata={"note": "1"})
    found, metadata = read_tensors(tmp_path / "x.safetensors")
    assert metadata == {"note": "1"} and set(found) == set(state)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


CHILD = """
import os, time
import numpy as np
from pchmr.config import UserError

def count(path, number):
    print("noise")
    for n in range(number):
        yield {"n": np.array([n]), "picture": np.full((2, 3), n, dtype=np.uint8)}

def fail(path):
    raise UserError("line one\\nand two")
    yield {}

def crash(path):
    os.abort()
    yield {}

def hang(path):
    time.sleep(60)
    yield {}

def eat(path):
    yield {"a": np.ones(1 << 32)}

def write(path):
    yield {"a": np.array([path.with_name("made").write_bytes(b"x" * 9000)])}
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "child_functions.py").write_text(CHILD)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "x"


def test_records_come_out_of_a_process_one_by_one(child: Path) -> None:
    found = list(stream("child_functions:count", child, number=3))
    assert [int(record["n"][0]) for record in found] == [0, 1, 2]
    assert found[2]["picture"].shape == (2, 3) and (found[2]["picture"] == 2).all()


def test_code_in_the_folder_that_one_stands_in_is_not_run(
    child: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Videos may lie beside a file named like a module."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(downloads)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert len(list(stream("child_functions:count", child, number=2))) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fail", "line one and two$"),
        ("crash", "crashed the decoder"),
        ("hang", "took longer than 8 seconds"),
        ("eat", "MemoryError"),
        ("write", "OSError"),
        ("absent", "AttributeError"),
    ],
)
def test_however_such_a_process_ends_it_is_one_line(child: Path, name: str, reason: str) -> None:
    limits = Limits(silent_seconds=8.0, memory_bytes=8 << 30)
    with pytest.raises(UserError, match=reason):
        list(stream(f"child_functions:{name}", child, limits))
