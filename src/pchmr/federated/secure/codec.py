"""Bytes of fixed length for typed messages: what is not exactly in form is refused.

A message is a frozen dataclass; how a field is written stands in its type: a number, bytes of one
length, text of one length, bytes with their number before them, a message, a counted tuple of
these. The length of the bytes depends on public sizes (the cohort, the vector) and never on the
values. Nothing is compressed, optional or free text.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from pchmr.federated.secure.refusal import Reason, Refusal, refuse_unless

MOST_ITEMS = 2**16
TAG_BYTES = 16


class Reader:
    """Takes bytes from the front of a message."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._rest = memoryview(data).cast("B")

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        refuse_unless(size <= len(self._rest), Reason.MALFORMED, "a message is too short")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def end(self) -> None:
        """Refuses what is left over."""
        refuse_unless(not self._rest, Reason.MALFORMED, "a message is too long")


@dataclass(frozen=True)
class Form:
    """How a field is written and read."""

    write: Callable[[Any], list[Any]]
    read: Callable[[Reader], Any]


def number(code: str) -> Form:
    """A number in one of struct's formats, big-endian."""
    size = struct.calcsize(f">{code}")

    def write(value: int | float) -> list[Any]:
        try:
            return [struct.pack(f">{code}", value)]
        except (struct.error, OverflowError) as error:
            raise Refusal(Reason.MALFORMED, f"{value} does not fit its field") from error

    return Form(write, lambda reader: struct.unpack(f">{code}", reader.take(size))[0])


def fixed(size: int) -> Form:
    """Bytes of one length."""

    def write(value: bytes) -> list[Any]:
        refuse_unless(len(value) == size, Reason.MALFORMED, f"a field takes {size} bytes")
        return [value]

    return Form(write, lambda reader: bytes(reader.take(size)))


def text(size: int) -> Form:
    """Plain text of at most `size` characters, padded with zeros."""

    def write(value: str) -> list[Any]:
        fits = value.isascii() and len(value) <= size and "\0" not in value
        refuse_unless(fits, Reason.MALFORMED, f"a name takes {size} plain characters")
        return [value.encode().ljust(size, b"\0")]

    def read(reader: Reader) -> str:
        data = bytes(reader.take(size)).rstrip(b"\0")
        refuse_unless(data.isascii() and b"\0" not in data, Reason.MALFORMED, "a name is not ASCII")
        return data.decode("ascii")

    return Form(write, read)


def counted() -> Form:
    """Bytes whose number stands before them; read without a copy."""

    def read(reader: Reader) -> memoryview:
        (size,) = struct.unpack(">Q", reader.take(8))
        return reader.take(size)

    return Form(lambda value: [struct.pack(">Q", len(value)), value], read)


def _many(item: Form) -> Form:
    """A tuple with the number of its items before it."""

    def write(values: tuple[Any, ...]) -> list[Any]:
        refuse_unless(len(values) < MOST_ITEMS, Reason.MALFORMED, "a list is too long")
        return [struct.pack(">H", len(values)), *(part for v in values for part in item.write(v))]

    def read(reader: Reader) -> tuple[Any, ...]:
        (count,) = struct.unpack(">H", reader.take(2))
        return tuple(item.read(reader) for _ in range(count))

    return Form(write, read)


U8 = Annotated[int, number("B")]
U32 = Annotated[int, number("I")]
U64 = Annotated[int, number("Q")]
F64 = Annotated[float, number("d")]
Flag = Annotated[bool, number("?")]
Key = Annotated[bytes, fixed(32)]
Digest = Annotated[bytes, fixed(32)]
Payload = Annotated[bytes | bytearray | memoryview, counted()]


M = TypeVar("M", bound="Message")


@dataclass(frozen=True)
class Message:
    """What is sent: `encode` and `decode` are each other's inverse."""

    def parts(self) -> list[Any]:
        """The pieces of the encoding."""
        forms = _forms(type(self)).items()
        return [part for name, form in forms for part in form.write(getattr(self, name))]

    @classmethod
    def take(cls: type[M], reader: Reader) -> M:
        """Reads one from the front of some bytes."""
        return cls(*(form.read(reader) for form in _forms(cls).values()))

    def encode(self) -> bytes:
        """The message's name in 16 bytes, then its fields."""
        return b"".join([_tag(type(self)), *self.parts()])

    @classmethod
    def decode(cls: type[M], data: bytes | bytearray | memoryview) -> M:
        """Reads exactly one message of this kind.

        Raises:
            Refusal: The bytes are not one.
        """
        reader = Reader(data)
        refuse_unless(reader.take(TAG_BYTES) == _tag(cls), Reason.MALFORMED, f"no {cls.__name__}")
        found = cls.take(reader)
        reader.end()
        return found


def _tag(message: type[Message]) -> bytes:
    tag = message.__name__.encode().ljust(TAG_BYTES, b"\0")
    assert len(tag) == TAG_BYTES
    return tag


@cache
def _forms(message: type[Message]) -> dict[str, Form]:
    """The form of each field, in order."""
    hints = get_type_hints(message, include_extras=True)
    return {name: _form(hint) for name, hint in hints.items()}


def _form(hint: Any) -> Form:
    if get_origin(hint) is tuple:
        return _many(_form(get_args(hint)[0]))
    if get_origin(hint) is Annotated:
        return hint.__metadata__[0]
    return Form(lambda value: value.parts(), hint.take)
