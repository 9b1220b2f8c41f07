"""Client processes side by side, fed by an in-process grid through shared memory.

Each worker process holds a copy of the world and one resident model. The global model is copied
once a cohort into memory that all workers read; a reply's arrays are the worker's own shared
memory and hold until the next reply is asked for. A worker that dies costs its client's reply and
is replaced.
"""

import multiprocessing
import pickle
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pchmr.federated.flower.api import (
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
    SharedArray,
    new_context,
    set_identity,
)
from pchmr.federated.flower.client_app import make_client_app, refusal
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.residence import Residence
from pchmr.federated.world import World

STOP_SECONDS = 5.0
_KINDS = {"config": ConfigRecord, "metrics": MetricRecord}


@dataclass
class Parcel:
    """A message without its arrays, which lie one after the other in a shared block."""

    metadata: dict[str, Any]
    arrays: dict[str, dict[str, int]]
    records: dict[str, tuple[str, dict[str, Any]]]
    error: tuple[int, str | None] | None

    @classmethod
    def of(cls, message: Message) -> "Parcel":
        """Packs all but the values."""
        made = cls(dict(message.metadata.__dict__), {}, {}, None)
        if message.has_error():
            made.error = (message.error.code, message.error.reason)
            return made
        for name, record in message.content.items():
            if isinstance(record, ArrayRecord):
                made.arrays[name] = {key: array.shape[0] for key, array in record.items()}
            else:
                kind = "config" if isinstance(record, ConfigRecord) else "metrics"
                made.records[name] = (kind, dict(cast(Any, record)))
        return made

    def message(self, block: np.ndarray, reply_to: Message | None = None) -> Message:
        """The message again, its arrays referring to the block."""
        if self.error is not None and reply_to is not None:
            return Message(Error(*self.error), reply_to=reply_to)
        content, start = RecordDict(), 0
        for name, sizes in self.arrays.items():
            arrays = ArrayRecord()
            for key, size in sizes.items():
                arrays[key] = SharedArray(block[start : start + size])
                start += size
            content[name] = arrays
        for name, (kind, values) in self.records.items():
            content[name] = _KINDS[kind](values)
        if reply_to is not None:
            return Message(content, reply_to=reply_to)
        message = Message(content, self.metadata["_dst_node_id"], self.metadata["_message_type"])
        message.metadata.__dict__.update(self.metadata)
        return message


def _values(message: Message) -> list[np.ndarray]:
    """The arrays of a message in the order of its parcel."""
    if message.has_error():
        return []
    records = [r for r in message.content.values() if isinstance(r, ArrayRecord)]
    return [array.numpy() for record in records for array in record.values()]


def _fill(block: np.ndarray, values: list[np.ndarray]) -> None:
    np.concatenate(values or [block[:0]], out=block[: sum(map(len, values))])


def _serve(
    pipe: Connection, world: bytes, state_folder: Path, down: Tensor, up: Tensor, num_threads: int
) -> None:
    """A worker process: answers parcels until its pipe closes."""
    torch.set_num_threads(num_threads)
    app = make_client_app(Residence(pickle.loads(world), state_folder), SharedArray)
    pipe.send(None)  # ready
    while True:
        try:
            parcel = pipe.recv()
        except EOFError:
            return
        metadata = parcel.metadata
        set_identity(metadata["_run_id"])
        context = new_context(metadata["_run_id"], metadata["_dst_node_id"])
        reply = app(parcel.message(down.numpy()), context)
        _fill(up.numpy(), _values(reply))
        pipe.send(Parcel.of(reply))


class _Worker:
    """One process, and the memory it answers in."""

    def __init__(self, world: bytes, state_folder: Path, down: Tensor, num_threads: int) -> None:
        self._up = torch.empty_like(down).share_memory_()
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, world, state_folder, down, self._up, num_threads)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._is_ready = False
        self.task: Message | None = None

    def wait_until_ready(self) -> None:
        """Waits for a new process to have loaded its world; one that died says so later."""
        if not self._is_ready:
            with suppress(EOFError, OSError):
                self.pipe.recv()
            self._is_ready = True

    def begin(self, message: Message) -> None:
        """Hands over a task whose arrays are in the shared block already."""
        self.wait_until_ready()
        self.task = message
        with suppress(OSError):  # it died: there will be no answer
            self.pipe.send(Parcel.of(message))

    def answer(self) -> Message | None:
        """The reply to the task, or None if the process died."""
        task, self.task = self.task, None
        assert task is not None
        try:
            return self.pipe.recv().message(self._up.numpy(), reply_to=task)
        except (EOFError, OSError):
            return None

    def stop(self) -> None:
        """Ends the process, at once if it is busy."""
        self.pipe.close()
        if self.task is not None:
            self._process.kill()
        self._process.join(STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()


class WorkerGrid(InProcessGrid):
    """Carries messages to worker processes, as many at a time as there are workers.

    Args:
        world: Copied to every worker.
        state_folder: Where clients keep what they keep.
        size: Values in the arrays of a message, of either direction.
        num_workers: Processes.
        num_threads: Of each process.
        num_nodes: Nodes to offer.
        run_id: Number of the run.
    """

    def __init__(
        self,
        world: World,
        state_folder: Path,
        *,
        size: int,
        num_workers: int,
        num_threads: int,
        num_nodes: int,
        run_id: int,
    ) -> None:
        super().__init__(ClientApp(), num_nodes, run_id)
        self._down = torch.empty(size).share_memory_()
        self._world, self._states, self._threads = pickle.dumps(world), state_folder, num_threads
        self._workers = [self._new_worker() for _ in range(num_workers)]

    def _new_worker(self) -> _Worker:
        return _Worker(self._world, self._states, self._down, self._threads)

    def close(self) -> None:
        """Ends all workers."""
        for worker in self._workers:
            worker.stop()

    def _carry(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        for worker in self._workers:
            worker.wait_until_ready()  # what starting costs is not a client's delay
        end = None if timeout is None else time.monotonic() + timeout
        waiting = messages[::-1]
        if waiting:
            _fill(self._down.numpy(), _values(messages[0]))
        while True:
            for worker in self._workers:
                if waiting and worker.task is None:
                    worker.begin(_same_arrays(waiting.pop(), messages[0]))
            busy = {worker.pipe: worker for worker in self._workers if worker.task is not None}
            left = None if end is None else end - time.monotonic()
            ready = wait(list(busy), timeout=left) if busy and (left is None or left > 0) else []
            if not ready:
                break
            worker = busy[cast(Connection, ready[0])]
            task = cast(Message, worker.task)
            reply = worker.answer()
            if reply is None:
                self._replace(worker)
            yield self._named(reply or refusal(task, "client_error"))
        for worker in [worker for worker in self._workers if worker.task is not None]:
            self._replace(worker)  # too late: its answer must not meet the next cohort

    def _replace(self, worker: _Worker) -> None:
        worker.stop()
        self._workers[self._workers.index(worker)] = self._new_worker()


def _same_arrays(message: Message, first: Message) -> Message:
    """The message, whose arrays must be those of the cohort's first: only these were copied."""
    pairs = zip(_values(message), _values(first), strict=True)
    assert all(a.ctypes.data == b.ctypes.data and len(a) == len(b) for a, b in pairs)
    return message
