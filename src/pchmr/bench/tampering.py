"""Ways to break a reply on its way to the server, and a grid that does so.

Most faults must be set aside by the server; the harmless ones come beside an honest reply that
must count exactly once. The grid keeps a ledger of what honest clients sent, so that anybody can
compute anew what the round should have come to.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from pchmr.federated.flower.api import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
    SharedArray,
    set_message_id,
    wire_array,
)
from pchmr.federated.flower.grid import InProcessGrid

Fault = Callable[[Message], list[Message]]


def _copy(reply: Message) -> Message:
    """The reply in records of its own, ready to be broken."""
    content = RecordDict()
    for name, record in reply.content.items():
        if isinstance(record, ArrayRecord):
            arrays = ArrayRecord()
            for key, array in record.items():
                arrays[key] = array
            content[name] = arrays
        else:
            content[name] = type(record)(dict(cast(Any, record)))
    return _answering(reply, content)


def _answering(reply: Message, content: RecordDict | Error) -> Message:
    """A message that answers what `reply` answers."""
    made = Message(content, reply_to=reply)
    made.metadata.__dict__.update(reply.metadata.__dict__)
    return made


def changed_array(change: Callable[[np.ndarray], np.ndarray], name: str = "delta") -> Fault:
    """Replaces an array by what `change` makes of it."""

    def fault(reply: Message) -> list[Message]:
        broken = _copy(reply)
        arrays = cast(ArrayRecord, broken.content["update"])
        arrays[name] = SharedArray(change(arrays[name].numpy().copy()))
        return [broken]

    return fault


def _poke(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[len(array) // 2] = value
        return array

    return change


def _records(change: Callable[[RecordDict], None]) -> Fault:
    """Changes the records of a reply."""

    def fault(reply: Message) -> list[Message]:
        broken = _copy(reply)
        change(broken.content)
        return [broken]

    return fault


def _number(name: str, value: Any) -> Fault:
    return _records(lambda c: cast(Any, c["metrics"]).__setitem__(name, value))


def _counts(num_samples: int, num_steps: int) -> Fault:
    """Claims of samples and steps that fit each other."""
    return _records(
        lambda c: cast(Any, c["metrics"]).update(num_samples=num_samples, num_steps=num_steps)
    )


def _one_step_more(reply: Message) -> list[Message]:
    steps = cast(int, cast(MetricRecord, reply.content["metrics"])["num_steps"])
    return _number("num_steps", steps + 1)(reply)


def _protocol(name: str, value: Any) -> Fault:
    return _records(lambda c: cast(Any, c["protocol"]).__setitem__(name, value))


def _rename(content: RecordDict) -> None:
    arrays = cast(ArrayRecord, content["update"])
    arrays["weights"] = arrays["delta"]
    del arrays["delta"]


def _numbers_for_arrays(content: RecordDict) -> None:
    del content["update"]
    content["update"] = MetricRecord({"delta": 1.0})


def _lying_header(content: RecordDict) -> None:
    """An array that says it is a vector of the right length and holds a matrix."""
    arrays = cast(ArrayRecord, content["update"])
    said, held = arrays["delta"], wire_array(np.zeros((3, 3), dtype=np.float32))
    arrays["delta"] = Array(said.dtype, tuple(said.shape), said.stype, held.data)


def _garbage(content: RecordDict) -> None:
    arrays = cast(ArrayRecord, content["update"])
    said = arrays["delta"]
    arrays["delta"] = Array(said.dtype, tuple(said.shape), said.stype, b"not an array")


def _said(name: str, value: Any) -> Fault:
    """Changes what an array says of itself, which Flower takes from a client's JSON as it is."""

    def change(content: RecordDict) -> None:
        arrays = cast(ArrayRecord, content["update"])
        arrays["delta"] = wire_array(arrays["delta"].numpy())
        setattr(arrays["delta"], name, value)

    return _records(change)


def _stranger(reply: Message) -> list[Message]:
    made = _copy(reply)
    made.metadata.__dict__["_reply_to_message_id"] = "never sent"
    return [made]


def _trailing(content: RecordDict) -> None:
    """A text behind the values of an array."""
    arrays = cast(ArrayRecord, content["update"])
    whole = wire_array(arrays["delta"].numpy())
    text = b"/home/someone/IMG_0001.jpg"
    arrays["delta"] = Array(whole.dtype, tuple(whole.shape), whole.stype, whole.data + text)


def _metadata(**changes: Any) -> Fault:
    """Changes what stands on the envelope."""

    def fault(reply: Message) -> list[Message]:
        made = _copy(reply)
        made.metadata.__dict__.update({f"_{name}": value for name, value in changes.items()})
        return [made]

    return fault


HALF_LETTER = "\ud800"
# These are taken off the wire as they are and cannot be put onto it again.
UNSPEAKABLE: dict[str, Fault] = {
    "size that no field holds": _said("shape", (2**40,)),
    "size below zero without end": _said("shape", (-(2**70),)),
    "half a letter as type": _said("dtype", HALF_LETTER),
    "half a letter as serialization": _said("stype", HALF_LETTER),
    "half a letter as array": _records(
        lambda c: cast(Any, c["update"]).__setitem__(HALF_LETTER, wire_array(np.zeros(1)))
    ),
    "half a letter as record": _records(
        lambda c: c.__setitem__(HALF_LETTER, ConfigRecord({"name": "x"}))
    ),
}
FAULTS: dict[str, Fault] = UNSPEAKABLE | {
    "text behind the values": _records(_trailing),
    "text as group": _metadata(group_id="/home/someone/IMG_0001.jpg"),
    "text as message type": _metadata(message_type="train./home/someone/IMG_0001.jpg"),
    "number as time to live": _metadata(ttl=123456.789),
    "time of another day": _metadata(created_at=1.0),
    "negative loss": _number("loss_sum", -5.0),
    "loss of 1e308": _number("loss_sum", 1e308),
    "code of the server": lambda r: [_answering(r, Error(2, "no_reply"))],
    "another error number": lambda r: [_answering(r, Error(99, "schema"))],
    "nan": changed_array(_poke(np.nan)),
    "infinity": changed_array(_poke(np.inf)),
    "times 1e8": changed_array(lambda a: a * np.float32(1e8)),
    "square overflows": changed_array(lambda a: a * np.float32(1e25)),
    "wrong shape": changed_array(lambda a: a[: len(a) // 2 * 2].reshape(2, -1)),
    "too short": changed_array(lambda a: a[:-1].copy()),
    "broadcastable": changed_array(lambda a: a[:1].copy()),
    "float64": changed_array(lambda a: a.astype(np.float64)),
    "integers": changed_array(lambda a: a.astype(np.int32)),
    "negative variance": changed_array(lambda a: -np.abs(a) - 1, "buffers"),
    "statistics times 1e6": changed_array(lambda a: a * np.float32(1e6), "buffers"),
    "nan in statistics": changed_array(_poke(np.nan), "buffers"),
    "missing array": _records(lambda c: cast(Any, c["update"]).__delitem__("delta")),
    "renamed array": _records(_rename),
    "header lies": _records(_lying_header),
    "not an array": _records(_garbage),
    "extra record": _records(lambda c: c.__setitem__("more", ConfigRecord({"name": "x"}))),
    "missing record": _records(lambda c: c.__delitem__("metrics")),
    "wrong kind of record": _records(_numbers_for_arrays),
    "image in numbers": _number("pixels", [1, 2, 3]),
    "no sample count": _records(lambda c: cast(Any, c["metrics"]).__delitem__("num_samples")),
    "negative samples": _number("num_samples", -1000),
    "no samples": _number("num_samples", 0),
    "1e12 samples": _number("num_samples", 10**12),
    "all samples there are": _counts(96, 24),
    "nan samples": _number("num_samples", float("nan")),
    "too many steps": _number("num_steps", 10**9),
    "a step too many": _one_step_more,
    "nan loss": _number("loss_sum", float("nan")),
    "list for a number": _number("loss_sum", [1.0, 2.0]),
    "old round": _protocol("round", 0),
    "round as a float": _protocol("round", 1.0),
    "another run": _protocol("run", 1),
    "another client": _protocol("client_id", 10**6),
    "another model": _protocol("fingerprint", "0" * 64),
    "text in the protocol": _protocol("note", "/home/someone/IMG_0001.jpg"),
    "other schema": _protocol("schema", "pchmr/update/v0"),
    "path in an error": lambda r: [_answering(r, Error(2, "/home/someone/IMG_0001.jpg"))],
    "error without reason": lambda r: [_answering(r, Error(2))],
    "dropped": lambda r: [],
    "answers nobody": _stranger,
}
# These leave the honest reply in place: it must count exactly once.
HARMLESS: dict[str, Fault] = {
    "sent twice": lambda r: [r, _copy(r)],
    "broken copy after it": lambda r: [r, *FAULTS["times 1e8"](r)],
    "stranger beside it": lambda r: [r, *_stranger(r)],
}


@dataclass
class Attempt:
    """What honest clients sent in one cohort, and whose replies were left alone."""

    honest: dict[int, tuple[np.ndarray, np.ndarray, int]] = field(default_factory=dict)
    spared: set[int] = field(default_factory=set)

    def good(self) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Updates, statistics and sample counts that must have counted."""
        return [self.honest[client] for client in sorted(self.spared)]


class FaultyGrid(InProcessGrid):
    """An in-process grid that tampers with replies as `choose` says, and keeps a ledger."""

    def __init__(self, *args: Any, choose: Callable[[], str | None]) -> None:
        super().__init__(*args)
        self._choose = choose
        self.attempts: list[Attempt] = []
        self.injected: list[str] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yields replies, some of them broken, missing or doubled."""
        attempt = Attempt()
        self.attempts.append(attempt)
        for reply in super().send_and_receive(messages, timeout=timeout):
            name = self._choose()
            self._note(attempt, reply, spared=name is None or name in HARMLESS)
            if name is None:
                yield reply
                continue
            self.injected.append(name)
            for number, made in enumerate((FAULTS | HARMLESS)[name](reply)):
                set_message_id(made, f"fault{len(self.injected)}.{number}")
                yield made

    def _note(self, attempt: Attempt, reply: Message, spared: bool) -> None:
        protocol = cast(ConfigRecord, reply.content["protocol"])
        arrays = cast(ArrayRecord, reply.content["update"])
        numbers = cast(MetricRecord, reply.content["metrics"])
        client = cast(int, protocol["client_id"])
        attempt.honest[client] = (
            arrays["delta"].numpy().astype(np.float64),
            arrays["buffers"].numpy().astype(np.float64),
            cast(int, numbers["num_samples"]),
        )
        if spared:
            attempt.spared.add(client)
