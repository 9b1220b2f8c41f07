"""The choices of a run by name, one record each: how people are dealt, what the server does.

A record says where the thing lives, which is imported when it is first used, and which settings it
reads that others ignore; the command line and its checks are made from the tables. Nothing here
imports torch or numpy. What a choice does stands in its own room.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A name of the command line.

    Attributes:
        target: `module:name` of what the name stands for.
        reads: Settings that it reads and that some others ignore.
    """

    target: str
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dealing(Choice):
    """A partition: `target` is `(labels, num_clients, rng, **reads) -> rows of each client`.

    Attributes:
        label: Column that decides unless `--partition-label` names one; None looks at no label.
    """

    label: str | None = None


_DEALT = "pchmr.data.partition:"
PARTITIONS: dict[str, Dealing] = {
    "iid": Dealing(target=_DEALT + "iid"),
    "dirichlet": Dealing(
        target=_DEALT + "dirichlet",
        label="action",
        reads=("partition_label", "alpha", "equal_sizes"),
    ),
    "natural": Dealing(target=_DEALT + "natural", label="scene", reads=("partition_label",)),
    "shards": Dealing(
        target=_DEALT + "shards", label="action", reads=("partition_label", "shards_per_client")
    ),
}

_RULES = "pchmr.federated.algorithms:"
_ROBUST = ("aggregation_rule", "trimmed_replies")
ALGORITHMS: dict[str, Choice] = {
    "fedavg": Choice(target=_RULES + "FEDAVG", reads=_ROBUST),
    "fedavgm": Choice(target=_RULES + "FEDAVGM", reads=("server_momentum", *_ROBUST)),
    "nesterov": Choice(target=_RULES + "NESTEROV", reads=("server_momentum", *_ROBUST)),
    "fedprox": Choice(target=_RULES + "FEDPROX", reads=("mu", *_ROBUST)),
    "fedadam": Choice(target=_RULES + "FEDADAM", reads=("beta_1", "beta_2", "tau", *_ROBUST)),
    "fedyogi": Choice(target=_RULES + "FEDYOGI", reads=("beta_1", "beta_2", "tau", *_ROBUST)),
    "fedadagrad": Choice(target=_RULES + "FEDADAGRAD", reads=("tau", *_ROBUST)),
    "scaffold": Choice(target=_RULES + "SCAFFOLD"),
    "fednova": Choice(target=_RULES + "FEDNOVA"),
    "fedper": Choice(target=_RULES + "FEDPER", reads=_ROBUST),
    "fedrep": Choice(target=_RULES + "FEDREP", reads=_ROBUST),
    "local-norm": Choice(target=_RULES + "LOCAL_NORM", reads=_ROBUST),
    "ditto": Choice(target=_RULES + "DITTO", reads=("mu", *_ROBUST)),
    "apfl": Choice(target=_RULES + "APFL", reads=("own_share", *_ROBUST)),
}


def load(target: str) -> Any:
    """What `module:name` names; imports the module."""
    module, name = target.split(":")
    return getattr(import_module(module), name)


def readers(table: Mapping[str, Choice], setting: str) -> tuple[str, ...]:
    """The choices that read a setting; all of them where no record names it."""
    found = tuple(name for name, choice in table.items() if setting in choice.reads)
    return found or tuple(table)


class Loaded(Mapping[str, Any]):
    """What the records of a table stand for, by name; each is imported when it is asked for."""

    def __init__(self, table: Mapping[str, Choice]) -> None:
        self._table = table

    def __getitem__(self, name: str) -> Any:
        return load(self._table[name].target)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)
