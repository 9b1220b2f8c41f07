"""A pickle machine that runs nothing: each opcode is interpreted here, each global a stand-in.

Python's own unpickler calls what a pickle names and hashes what it uses as keys; this one knows
only the opcodes that arrays, tensors and plain containers need, calls nothing but the stand-ins
that it is given, keeps sets unhashed, and takes as keys only what hashes in no time.
"""

import pickletools
from collections.abc import Callable
from io import BufferedIOBase
from typing import IO, Any, cast

from pchmr.door.limits import PICKLE_KEY_BITS, PICKLE_OPCODES

LONGEST_KEY = 8
Find = Callable[[str, str], Any]


class PickleError(ValueError):
    """A pickle that asks for what is not allowed.

    Attributes:
        culprit: The global that it names, if that is what is refused.
    """

    culprit: str = ""

    @classmethod
    def of_global(cls, name: str) -> "PickleError":
        """The refusal of a global."""
        found = cls(f"global {name} is not allowed")
        found.culprit = name
        return found


class Bag:
    """An object of a class that is never imported: it only keeps its state."""

    state: Any = None

    def __new__(cls, *_: Any) -> Any:
        """Ignores constructor arguments."""
        return object.__new__(cls)

    def set_state(self, state: Any) -> None:
        """Keeps what a pickle gives as the object's content."""
        self.state = state

    def part(self, name: str) -> Any:
        """An entry of the state; None where it is missing."""
        return self.state.get(name) if type(self.state) is dict else None


class PlainDict(dict):
    """Stands for `collections.OrderedDict`."""

    def __init__(self, *_: Any) -> None:
        """Starts empty; old pickles that fill it by argument lose that content."""
        super().__init__()

    def set_state(self, _: Any) -> None:
        """Ignores attributes."""


class Call:
    """A function that a pickle may call but cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        return self._function(*arguments)


class Machine:
    """Interprets a pickle."""

    def __init__(self, find: Find, persistent: Callable[[Any], Any] | None = None) -> None:
        """Takes what globals and persistent ids stand for.

        Args:
            find: The stand-in of a module and name: a `Call`, or a class of `Bag` or `PlainDict`,
                or an inert value; raises `PickleError` for all others.
            persistent: The value of a persistent id; refused without.
        """
        self._find, self._persistent = find, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BufferedIOBase) -> Any:
        """The value of the pickle that starts here; the stream is left behind its end.

        Raises:
            ValueError: It asks for what is not allowed, or is damaged (also IndexError, KeyError).
        """
        self.stack, self.marks, self.memo = [], [], {}
        for count, (opcode, argument, _) in enumerate(
            pickletools.genops(cast(IO[bytes], stream)), start=1
        ):
            if count > PICKLE_OPCODES:
                raise PickleError("too many opcodes")
            action = ACTIONS.get(opcode.name)
            if action is None:
                raise PickleError(f"opcode {opcode.name} is not allowed")
            if opcode.name in PUTS and int(argument or 0) > count:
                raise PickleError("memo index beyond the file")
            action(self, argument)
        return self.stack.pop()

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def take(self, count: int) -> tuple[Any, ...]:
        """The last so many values, which leave the stack."""
        if count > len(self.stack) - (self.marks[-1] if self.marks else 0):
            raise PickleError("stack is empty")
        found = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return found

    def since_mark(self) -> tuple[Any, ...]:
        """All values since the last mark, which leave the stack with it."""
        start = self.marks.pop()
        found = tuple(self.stack[start:])
        del self.stack[start:]
        return found

    def global_of(self, module: Any, name: Any) -> None:
        """Pushes what a global stands for."""
        if type(module) is not str or type(name) is not str:
            raise PickleError("global without a name")
        self.push(self._find(module, name))

    def call(self, function: Any, arguments: Any) -> None:
        """Pushes what a stand-in makes of its arguments."""
        if not isinstance(function, (Call, type)) or type(arguments) is not tuple:
            raise PickleError("call of what is no function")
        self.push(function(*arguments))

    def build(self, _: Any) -> None:
        """Gives an object its state."""
        (state,) = self.take(1)
        target = self.stack[-1]
        if not isinstance(target, (Bag, PlainDict)):
            raise PickleError("change of what is no object")
        target.set_state(state)

    def fill(self, items: tuple[Any, ...]) -> None:
        """Sets keys and values of the dictionary on the stack."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise PickleError("keys of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked_key(key)] = value

    def extend(self, items: tuple[Any, ...]) -> None:
        """Appends to the list on the stack; what stands for a set or a foreign list drops them."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, Bag):
            raise PickleError("items of what is no list")

    def persistent(self, identity: Any) -> None:
        """Pushes the value of a persistent id."""
        if self._persistent is None:
            raise PickleError("persistent ids are not allowed")
        self.push(self._persistent(identity))

    def make_dict(self, _: Any) -> None:
        """A dictionary of all since the mark."""
        items = self.since_mark()
        self.push({})
        self.fill(items)


def _checked_key(key: Any) -> Any:
    """A key that hashes in no time and like no other."""
    parts = key if type(key) is tuple and len(key) <= LONGEST_KEY else (key,)
    for part in parts:
        if type(part) is int and part.bit_length() > PICKLE_KEY_BITS:
            raise PickleError("key that is too large")
        if type(part) not in (str, bytes, int, bool, type(None)):
            raise PickleError(f"key that holds a {type(part).__name__}")
    return key


def _ignore(machine: Machine, _: Any) -> None:
    """Protocol and frames say nothing about the value."""


def _class_and_state(machine: Machine, _: Any) -> None:
    kind, arguments, _names = machine.take(3)
    machine.call(kind, arguments)


VALUES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8"
)
ACTIONS: dict[str, Callable[[Machine, Any], Any]] = {
    **dict.fromkeys(VALUES.split(), Machine.push),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _ignore),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, at: m.push(m.memo[at])),
    **dict.fromkeys(
        ("PUT", "BINPUT", "LONG_BINPUT"), lambda m, at: m.memo.__setitem__(at, m.stack[-1])
    ),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.take(1),
    "POP_MARK": lambda m, _: m.since_mark(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_SET": lambda m, _: m.push(Bag()),
    "FROZENSET": lambda m, _: (m.since_mark(), m.push(Bag())),
    "LIST": lambda m, _: m.push(list(m.since_mark())),
    "TUPLE": lambda m, _: m.push(m.since_mark()),
    "TUPLE1": lambda m, _: m.push(m.take(1)),
    "TUPLE2": lambda m, _: m.push(m.take(2)),
    "TUPLE3": lambda m, _: m.push(m.take(3)),
    "DICT": Machine.make_dict,
    "APPEND": lambda m, _: m.extend(m.take(1)),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "ADDITEMS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": lambda m, _: m.fill(m.take(2)),
    "SETITEMS": lambda m, _: m.fill(m.since_mark()),
    "GLOBAL": lambda m, name: m.global_of(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.global_of(*m.take(2)),
    "REDUCE": lambda m, _: m.call(*m.take(2)),
    "NEWOBJ": lambda m, _: m.call(*m.take(2)),
    "NEWOBJ_EX": _class_and_state,
    "BUILD": Machine.build,
    "PERSID": Machine.persistent,
    "BINPERSID": lambda m, _: m.persistent(m.take(1)[0]),
}
PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
