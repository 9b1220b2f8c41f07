"""Pickles of body files load through stand-ins; whatever else a pickle asks for is refused."""

import io
import os
import pickle
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from pchmr.door import pickles
from pchmr.door.files import FileError
from pchmr.door.numpy_pickles import Finder, matrices_of, read_pickled_arrays

PROTOCOLS = (0, 1, 2, 4, 5)


@pytest.fixture
def chumpy(monkeypatch) -> types.ModuleType:
    """Stand-ins named like chumpy's classes, so that pickles name them."""

    class Ch:
        def __init__(self, **state):
            self.__dict__.update(state)

    class Select(Ch):
        pass

    package, leaf = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    for kind in (Ch, Select):
        kind.__module__, kind.__qualname__ = "chumpy.ch", kind.__name__
        setattr(leaf, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "chumpy", package)
    monkeypatch.setitem(sys.modules, "chumpy.ch", leaf)
    return leaf


def write(path: Path, value: object, protocol: int) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_matrices_and_chumpy_objects_load(tmp_path, chumpy, protocol: int) -> None:
    generator = np.random.default_rng(0)
    plain = generator.standard_normal((4, 3))
    sparse = csc_matrix(generator.standard_normal((3, 5)) * (generator.random((3, 5)) < 0.5))
    leaf = chumpy.Ch(x=plain, _dirty_vars={"r"}, _cache={"drs": None})
    picked = chumpy.Select(a=leaf, idxs=np.array([5, 0, 7, 2]), preferred_shape=(2, 2))
    content = {
        "plain": plain,
        "fortran": np.asfortranarray(plain),
        "whole": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "csc": sparse,
        "csr": csr_matrix(sparse),
        "ch": leaf,
        "select": picked,
        "text": "ignored",
    }
    path = write(tmp_path / "body.pkl", content, protocol)
    names = tuple(name for name in content if name != "text")
    found = read_pickled_arrays(path, (*names, "absent"))
    assert set(found) == set(names)
    for name, expected in {
        "plain": plain,
        "fortran": plain,
        "whole": content["whole"],
        "csc": sparse.toarray(),
        "csr": sparse.toarray(),
        "ch": plain,
        "select": plain.ravel()[[5, 0, 7, 2]].reshape(2, 2),
    }.items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_an_array_as_python_2_wrote_it_loads(tmp_path) -> None:
    values = np.array([1.5, -2.0, 1e-300])
    raw = values.tobytes()
    kind = text_global("numpy.dtype", b"U\x02f8K\x00K\x01\x87R")
    kind += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = text_global("numpy.core.multiarray._reconstruct", text_global("numpy.ndarray"))
    array += b"K\x00\x85U\x01b\x87R"
    array += b"(K\x01K\x03\x85" + kind + b"\x89U" + bytes([len(raw)]) + raw + b"tb"
    old_set = text_global("__builtin__.set", b"]\x85R")
    old_object = text_global("copy_reg._reconstructor", text_global("chumpy.ch.Ch"))
    old_object += text_global("__builtin__.object", b"N\x87R")
    entries = b"U\x0av_template" + array + b"U\x01s" + old_set + b"U\x01o" + old_object
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02}(" + entries + b"u.")
    np.testing.assert_array_equal(read_pickled_arrays(path, ("v_template",))["v_template"], values)


@pytest.mark.parametrize("module", ["copy_reg", "copyreg"])
def test_both_spellings_of_builtins_are_known(module: str) -> None:
    find = Finder(0)
    for other in ("__builtin__", "builtins"):
        assert find(other, "object") and find(other, "set")
    assert find(module, "_reconstructor")
    assert find("scipy.sparse.csc", "csc_matrix")
    assert find("numpy._core.numeric", "_frombuffer")


class Runs:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def text_global(name: str, *rest: bytes) -> bytes:
    module, _, attribute = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n" + b"".join(rest)


MARK = "pchmr_payload_ran"
PAYLOADS = {
    "os.system": pickle.dumps(Runs(os.system, f"touch {MARK}")),
    "builtins.eval": pickle.dumps(Runs(eval, f"open('{MARK}', 'w')"), protocol=2),
    "builtins.exec": pickle.dumps(Runs(exec, f"open('{MARK}', 'w')")),
    "open": pickle.dumps(Runs(open, MARK, "w")),
    "getattr": pickle.dumps(Runs(getattr, "", "join")),
    "import": text_global("builtins.__import__", b"U\x02os\x85R."),
    "subprocess": text_global("subprocess.Popen", b"U\x04true\x85R."),
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0bos.getcwdb\x93)R.",
    "numpy load": text_global("numpy.load", b"U\x01x\x85R."),
    "numpy f2py": text_global("numpy.f2py.diagnose.run", b")R."),
    "ndarray bomb": text_global("numpy.ndarray", b"J\x00\x00\x00\x7f\x85\x85R."),
    "reconstruct bomb": text_global(
        "numpy.core.multiarray._reconstruct",
        text_global("numpy.ndarray"),
        b"J\x00\x00\x00\x7f\x85U\x01b\x87R.",
    ),
    "inst": b"(S'true'\nios\nsystem\n.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pos\n.",
    "memo bomb": b"\x80\x02Nr\x00\x00\x00\x70.",
    "bytearray bomb": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
    "bytes bomb": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "buffer": b"\x80\x05\x97.",
    "encode": text_global("_codecs.encode", b"U\x01xU\x03hex\x86R."),
    "change a function": text_global("_codecs.encode", b"}b."),
    "change a class": text_global("collections.OrderedDict", b"}U\x01xK\x01s\x86b."),
    "reconstruct a dict": text_global(
        "copyreg._reconstructor", text_global("builtins.dict", b"N\x86R.")
    ),
    "cut off": pickle.dumps({"v_template": np.zeros(100)})[:-40],
    "no pickle": b"hello world",
    "empty": b"",
    "no dictionary": pickle.dumps([1, 2, 3]),
    "opcode flood": b"\x80\x02" + b"N0" * 600 + b"N.",
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads_are_refused_and_nothing_runs(tmp_path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pickles, "PICKLE_OPCODES", 1000)  # a million take long to count
    path = tmp_path / "payload.pkl"
    path.write_bytes(PAYLOADS[name])
    with pytest.raises(FileError, match=r"payload\.pkl") as caught:
        read_pickled_arrays(path, ("v_template",))
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["payload.pkl"], "nothing was written"


def test_the_refused_global_is_named(tmp_path) -> None:
    path = tmp_path / "payload.pkl"
    path.write_bytes(PAYLOADS["os.system"])
    with pytest.raises(FileError, match=r"global (posix|nt)\.system is not allowed"):
        read_pickled_arrays(path, ("v_template",))


BAD_ARRAYS = {
    "objects": np.array([{}, 1], dtype=object),
    "text": np.array(["a"]),
    "complex": np.zeros(2, dtype=complex),
    "number": 3.0,
    "list": [1.0, 2.0],
    "dates": np.zeros(1, dtype="M8[s]"),
    "record": np.zeros(1, dtype=[("a", "f8")]),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_only_arrays_of_plain_numbers_are_read(tmp_path, name: str) -> None:
    path = write(tmp_path / "bad.pkl", {"v_template": BAD_ARRAYS[name], "other": 1}, 4)
    assert read_pickled_arrays(path, ("absent",)) == {}, "what is not asked for is never made"
    with pytest.raises(FileError, match="v_template"):
        read_pickled_arrays(path, ("v_template",))


def test_an_array_whose_header_lies_is_refused(tmp_path) -> None:
    honest = pickle.dumps({"v_template": np.arange(3.0)}, protocol=2)
    shape = honest.replace(b"K\x03\x85", b"J\x00\x00\x00\x7f\x85", 1)
    assert shape != honest
    (tmp_path / "lies.pkl").write_bytes(shape)
    with pytest.raises(FileError, match="do not fit its shape"):
        read_pickled_arrays(tmp_path / "lies.pkl", ("v_template",))


def test_a_sparse_matrix_that_points_outside_is_refused(tmp_path) -> None:
    matrix = csc_matrix(np.eye(3))
    matrix.indices = np.array([0, 1, 99], dtype=np.int32)
    path = write(tmp_path / "outside.pkl", {"J_regressor": matrix}, 2)
    with pytest.raises(FileError, match="J_regressor"):
        read_pickled_arrays(path, ("J_regressor",))
    huge = csc_matrix(([1.0], ([5], [6])), shape=(1 << 20, 1 << 20))
    path = write(tmp_path / "huge.pkl", {"J_regressor": huge}, 2)
    with pytest.raises(FileError, match="too large"):
        read_pickled_arrays(path, ("J_regressor",))


def test_deep_nesting_ends(tmp_path) -> None:
    path = tmp_path / "deep.pkl"
    path.write_bytes(nested(60_000))
    with pytest.raises(FileError, match="no dictionary"):
        read_pickled_arrays(path, ("v_template",))


def test_a_chain_of_chumpy_objects_has_an_end(tmp_path, chumpy) -> None:
    value = np.zeros(2)
    for _ in range(40):
        value = chumpy.Ch(a=value)
    path = write(tmp_path / "chain.pkl", {"v_template": value}, 2)
    with pytest.raises(FileError, match="nested too deeply"):
        read_pickled_arrays(path, ("v_template",))
    loop = chumpy.Ch()
    loop.a = loop
    path = write(tmp_path / "loop.pkl", {"v_template": loop}, 2)
    with pytest.raises(FileError, match="nested too deeply"):
        read_pickled_arrays(path, ("v_template",))


def test_object_arrays_of_matrices_are_read_as_lists(tmp_path) -> None:
    entries = np.empty(2, dtype=object)
    entries[0], entries[1] = csr_matrix(np.eye(3)), csc_matrix(np.ones((2, 3)))
    stream = io.BytesIO()
    np.save(stream, entries, allow_pickle=True)
    found = matrices_of(tmp_path / "x.npz", stream.getvalue())
    assert [matrix.shape for matrix in found] == [(3, 3), (2, 3)]
    with pytest.raises(FileError, match="no list of sparse matrices"):
        stream = io.BytesIO()
        np.save(stream, np.array([1, "x", None], dtype=object), allow_pickle=True)
        matrices_of(tmp_path / "x.npz", stream.getvalue())


BOMB = b"K\x01" + b"2\x86" * 60
BOMBS = {
    "key": b"\x80\x02}" + BOMB + b"K\x01s.",
    "set": b"\x80\x04\x8f(" + BOMB + b"\x90.",
    "frozenset": b"\x80\x04}U\x01a(" + BOMB + b"\x91s.",
    "set by name": b"\x80\x02}U\x01a" + text_global("builtins.set", b"]" + BOMB + b"a\x85Rs."),
    "large keys": b"\x80\x02}" + b"\x8a\x09" + b"\xff" * 8 + b"\x00K\x01s.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_nothing_is_hashed_for_ever(tmp_path, name: str) -> None:
    """Each tuple holds the one before twice: its hash would take 2^60 steps."""
    path = tmp_path / "bomb.pkl"
    path.write_bytes(BOMBS[name])
    try:
        assert read_pickled_arrays(path, ("v_template",)) == {}
    except FileError as error:
        assert "\n" not in str(error)


STARTS = [[0, 2**63 - 1, -2, 1], [0, 2, 1, 3], [1, 2, 3, 3], [0, 1, 2, 2**32 + 3]]


@pytest.mark.parametrize("starts", STARTS)
@pytest.mark.parametrize("kind", [csr_matrix, csc_matrix])
def test_index_arithmetic_cannot_wrap_around(tmp_path, starts: list[int], kind) -> None:
    """Differences of these starts wrap to lengths that look right."""
    matrix = kind(np.eye(3))
    matrix.indptr = np.array(starts, dtype=np.int64)
    path = write(tmp_path / "wraps.pkl", {"J_regressor": matrix}, 2)
    with pytest.raises(FileError, match="contradict each other"):
        read_pickled_arrays(path, ("J_regressor",))
    matrix = kind(np.eye(3))
    matrix.indices = np.array([0, 1, 2**32 + 2], dtype=np.int64)
    path = write(tmp_path / "wraps.pkl", {"J_regressor": matrix}, 2)
    with pytest.raises(FileError, match="index outside"):
        read_pickled_arrays(path, ("J_regressor",))
