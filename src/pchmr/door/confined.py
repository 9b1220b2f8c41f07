"""Parsing by libraries in C, in a process of its own with limits on memory and time.

A function of this package, named by text, is called there with plain values and yields records of
arrays, which come back one by one as they are needed. A crash, a hang or too much memory ends that
process and is one `FileError` here. It is no sandbox against code: nothing that runs a file's own
code belongs here.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from pchmr.config.errors import UserError
from pchmr.door.files import FileError, one_line
from pchmr.door.limits import CHILD_BYTES, CHILD_HEADER_BYTES, CHILD_RECORD_BYTES, CHILD_SECONDS
from pchmr.door.text import Json, parse_json

ERROR, END = "error", "end"
KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
COMMAND = "from pchmr.door.confined import serve; serve()"

Record = dict[str, ndarray]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What such a process may use.

    Attributes:
        memory_bytes: Address space.
        cpu_seconds: Of the whole process.
        silent_seconds: Between two records.
    """

    memory_bytes: int = CHILD_BYTES
    cpu_seconds: int = CHILD_SECONDS
    silent_seconds: float = CHILD_SECONDS


def stream(
    function: str, path: Path, limits: Limits | None = None, **arguments: Any
) -> Iterator[Record]:
    """Records that `function(path, **arguments)` yields in a process of its own.

    Args:
        function: "module:name" of a generator of dictionaries of plain arrays.
        path: File that it reads; its first argument.
        limits: Memory and time.
        arguments: Plain values that JSON can hold.

    Raises:
        FileError: What the function raised, in one line, or how the process ended.
    """
    limits = limits or Limits()
    order = {"function": function, "path": str(path), "arguments": arguments}
    order["memory_bytes"], order["cpu_seconds"] = limits.memory_bytes, limits.cpu_seconds
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None and isinstance(process.stdout, BufferedIOBase)
    try:
        with process.stdin as pipe:
            pipe.write(json.dumps(order).encode())
        while (record := _next(process, process.stdout, path, limits)) is not None:
            yield record
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _next(
    process: subprocess.Popen[bytes], pipe: BufferedIOBase, path: Path, limits: Limits
) -> Record | None:
    """The next record; None at the end."""
    alarm = threading.Timer(limits.silent_seconds, process.kill)
    alarm.start()
    try:
        found = _receive(pipe)
    except ValueError:
        found = None
    finally:
        alarm.cancel()
    if found is None:
        raise FileError(path, _how_it_ended(process.wait(), limits))
    header, record = found
    if ERROR in header:
        raise FileError(path, header[ERROR])
    return None if END in header else record


def _how_it_ended(code: int, limits: Limits) -> str:
    if code in (-9, -24):  # killed, out of CPU time
        return f"reading it took longer than {limits.silent_seconds:.0f} seconds"
    return f"reading it crashed the decoder ({code})"


def _receive(pipe: BufferedIOBase) -> tuple[Json, Record] | None:
    """A header and its arrays; None where the process ended, `ValueError` for anything else."""
    line = pipe.readline(CHILD_HEADER_BYTES)
    if not line.endswith(b"\n"):
        return None
    header = parse_json(line.decode("utf-8"))
    record, left = {}, CHILD_RECORD_BYTES
    for name, kind, shape in header.get("arrays", []):
        if kind not in KINDS:
            raise ValueError(f"array of type {kind}")
        dtype = np.dtype(kind)
        count = dtype.itemsize
        for extent in shape:
            count *= max(int(extent), 0)
        left -= count
        if left < 0:
            raise ValueError("record too large")
        content = pipe.read(count)
        record[name] = np.frombuffer(bytearray(content), dtype=dtype).reshape(shape)
    return header, record


def serve() -> None:
    """Runs in that process: reads the order, sets the limits, writes records."""
    order = json.loads(sys.stdin.buffer.read())
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not pass for a record
    _limit(order["memory_bytes"], order["cpu_seconds"])
    try:
        module, name = order["function"].split(":")
        function = getattr(import_module(module), name)
        for record in function(Path(order["path"]), **order["arguments"]):
            _send(out, {}, record)
        _send(out, {END: True}, {})
    except Exception as error:  # the library may fail in any way
        reason = error.reason if isinstance(error, FileError) else error
        text = one_line(reason) if isinstance(error, UserError) else _named(error)
        _send(out, {ERROR: text}, {})


def _named(error: Exception) -> str:
    words = one_line(error)
    kind = type(error).__name__
    return kind if words == kind else f"{kind}: {words}"


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _send(out: BufferedIOBase, header: Mapping[str, Any], record: Mapping[str, ndarray]) -> None:
    arrays = [[name, array.dtype.str[1:], array.shape] for name, array in record.items()]
    out.write(json.dumps({**header, "arrays": arrays}).encode() + b"\n")
    for array in record.values():
        out.write(np.ascontiguousarray(array).tobytes())
    out.flush()
