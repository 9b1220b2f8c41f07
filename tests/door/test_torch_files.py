"""Files of `torch.save` come back as `torch.load` reads them; tensors that lie are refused."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from pchmr.door import FileError
from pchmr.door.torch_files import UnsafeFileError, read_torch


def write_archive(path: Path, program: bytes, storage: bytes = b"\0" * 4) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", storage)
    return path


def tensor_of(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, count: int = 1):
    """A pickle of {"a": tensor} whose view of its storage is given."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu" + pickled(count) + b"tQ"
    view = pickled(offset) + pickled(size) + pickled(stride) + b"\x89N"
    return b"\x80\x02}U\x01actorch._utils\n_rebuild_tensor_v2\n(" + storage + view + b"tRs."


def pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]


@pytest.mark.parametrize("old", [False, True])
def test_it_reads_what_torch_reads(tmp_path: Path, old: bool) -> None:
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    value = {
        "state_dict": {
            "module.a": base,
            "turned": base.T,
            "part": base[1:3, ::2],
            "half": base.half(),
            "brain": base.bfloat16(),
            "count": torch.tensor(7),
            "none": torch.zeros(0, 3),
            "learned": torch.nn.Parameter(base * 2),
        },
        "epoch": 3,
        "rates": [0.1, (1, 2)],
        "names": ("a", None, True),
    }
    torch.save(value, tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
    found = read_torch(tmp_path / "x.pth")
    wanted = torch.load(tmp_path / "x.pth", weights_only=True)
    state = found.pop("state_dict")
    for name, tensor in wanted.pop("state_dict").items():
        assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor), name
    assert found == wanted


@pytest.mark.parametrize(
    ("size", "stride", "offset", "reason"),
    [
        ((1 << 40,), (0,), 0, "shows a number twice"),
        ((2, 1 << 30), (0, 1), 0, "shows a number twice"),
        ((1,), (1,), 5, "looks beyond its storage"),
        ((1,), (-1,), 0, "is not described"),
        ((0, 1 << 50), (1, 1), 0, "shows a number twice"),
        ((1,), (1, 1), 0, "is not described"),
    ],
)
def test_tensors_see_no_more_than_their_storage(tmp_path, size, stride, offset, reason) -> None:
    assert read_torch(write_archive(tmp_path / "ok.pth", tensor_of((1,), (1,))))["a"].shape == (1,)
    with pytest.raises(FileError, match=reason):
        read_torch(write_archive(tmp_path / "x.pth", tensor_of(size, stride, offset)))


def test_storages_are_no_larger_than_the_file(tmp_path: Path) -> None:
    program = tensor_of((1,), (1,), count=1 << 40)
    with pytest.raises(FileError, match="storages larger than the file"):
        read_torch(write_archive(tmp_path / "x.pth", program))
    with pytest.raises(FileError, match="cut off"):
        read_torch(write_archive(tmp_path / "y.pth", tensor_of((1,), (1,)), storage=b"\0\0"))


def test_keys_that_hash_for_ever_are_refused(tmp_path: Path) -> None:
    program = b"\x80\x02}" + b"K\x01K\x01\x86" + b"2\x86" * 60 + b"K\x01s."
    with pytest.raises(FileError, match="key that holds a tuple"):
        read_torch(write_archive(tmp_path / "x.pth", program))


def test_what_asks_to_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFileError, match=r"os\.system"):
        read_torch(write_archive(tmp_path / "x.pth", b"\x80\x02cos\nsystem\nU\x01a\x85R."))
