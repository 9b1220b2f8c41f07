"""What a client does for a server, whatever the server asks: the policy of the device's owner.

A server could read a label out of a client with tasks that are each legal: rate zero, one photo, a
round repeated with other weights. So the client holds every task against a `ClientPolicy`, which
lies in a file of its own (0600) that only its owner edits, and keeps a ledger of rounds that it
answered, over restarts. Every refusal has the same code and comes before anything is computed from
data; they are loaded first, since some bounds count them. Settings, weights and samples that are
out of bounds use up the round, so that being refused tells the server nothing; another device's
client, a round out of range, settings that are not read, another hour and a lack of consent leave
it. What a kind of task adds (secure aggregation) brings a policy of its own, as a field here.
"""

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TypeVar, get_args, get_type_hints

import numpy as np

from pchmr.config import Algorithm, FederateConfig, OptimOptions, UserError
from pchmr.federated.ledger import Ledger
from pchmr.federated.occasion import battery, lasts, now, within
from pchmr.federated.secure.policy import SECURE, SecurePolicy
from pchmr.federated.update import Rejected, Update

LOSSES: tuple[str, ...] = get_args(get_type_hints(OptimOptions)["loss"])
POLICY = "policy.json"
Policy = TypeVar("Policy")
REFUSED = "policy"
NUMBERS: dict[str, type] = {"bits": int, "least_noise": float, "least_battery": int}
"""Entries that are a number or nothing."""
WHOLE = ("client_ids", "hours")
"""Entries that are a list of whole numbers or nothing."""


class PolicyError(UserError):
    """A policy file that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class ClientPolicy:
    """Bounds that no server can widen.

    Attributes:
        client_ids: Logical ids that this device answers for; None in a simulation, where a node
            answers for the one that it was first asked for.
        algorithms: Federated algorithms that it takes part in.
        losses: Loss recipes that it trains with.
        architectures: Fingerprints of layouts that it trains; None for the one it has built itself.
        max_local_epochs: Most passes in a round.
        max_steps: Most optimizer steps in a round.
        max_rounds: Highest round that it answers.
        max_runs: Runs that it answers, one after the other; none of them twice.
        min_learning_rate: Lowest rate that a run's schedule comes to: at zero a task would measure
            and learn nothing, and a server may ask for the last rounds alone. Cosine ends at a
            hundredth of the learning rate, so 1e-5 is the least that the default lets it start at;
            weights of float32 still move by steps of 1e-7.
        max_learning_rate: Highest rate.
        min_clip: Lowest gradient clip; a tiny one makes of an update one exact gradient.
        max_clip: Highest gradient clip.
        min_samples: Fewest samples with which it trains.
        min_private_samples: The same where the data set says that it is private.
        min_samples_for_loss: Fewest samples with which its loss is told.
        max_settings_bytes: Longest settings that are read.
        max_settings_depth: Deepest nesting of settings that is read.
        aggregations: In which it takes part: `plain` shows the server its update.
        hours: First and last hour of the day, by the device's clock, in which it takes part, such
            as 22 and 6; None for all.
        least_battery: Percent below which it takes no part while it is not charged; None for any.
        secure: What it asks of rounds whose updates are summed under masks.
    """

    client_ids: tuple[int, ...] | None = None
    algorithms: tuple[str, ...] = get_args(Algorithm)
    losses: tuple[str, ...] = LOSSES
    architectures: tuple[str, ...] | None = None
    max_local_epochs: int = 20
    max_steps: int = 20_000
    max_rounds: int = 10_000
    max_runs: int = 1
    min_learning_rate: float = 1e-7
    max_learning_rate: float = 0.5
    min_clip: float = 1e-3
    max_clip: float = 1000.0
    min_samples: int = 1
    min_private_samples: int = 8
    min_samples_for_loss: int = 8
    max_settings_bytes: int = 65_536
    max_settings_depth: int = 4
    aggregations: tuple[str, ...] = ("plain", "secure")
    hours: tuple[int, ...] | None = None
    least_battery: int | None = None
    secure: SecurePolicy = SECURE

    @classmethod
    def load(cls, path: Path) -> "ClientPolicy":
        """The policy in a file; what it leaves out is as by default.

        Raises:
            PolicyError: The file is not a policy, or others may read or write it.
        """
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise PolicyError(f"{path} is open to others: chmod 600 {path}")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise PolicyError(f"{path} is not JSON: {error}") from None
        return read_policy(cls, raw, str(path))

    def save(self, path: Path) -> None:
        """Writes the policy for its owner alone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        path.chmod(0o600)

    def allows(self, config: FederateConfig) -> bool:
        """Whether settings of a run are within the bounds."""
        options = config.optim_options
        return (
            config.algorithm in self.algorithms
            and config.privacy_options.aggregation in self.aggregations
            and options.loss in self.losses
            and config.local_epochs <= self.max_local_epochs
            and self.min_learning_rate <= _lowest_rate(config)
            and options.learning_rate <= self.max_learning_rate
            and self.min_clip <= options.clip <= self.max_clip
            and math.isfinite(options.weight_decay)
            and options.weight_decay * options.learning_rate < 1
        )


def _lowest_rate(config: FederateConfig) -> float:
    """The learning rate at the end of a run's schedule: no step has a lower one."""
    from pchmr.training import schedule  # with torch

    factor = schedule(config.server_options.round_schedule, num_epochs=1)
    return config.optim_options.learning_rate * factor(1.0)


def read_policy(kind: type[Policy], raw: object, where: str) -> Policy:
    """A policy from plain values; a field whose default is a policy is an object of its own.

    Args:
        kind: A dataclass whose fields have defaults.
        raw: What a file holds; what it leaves out is as by default.
        where: The file, and the way to the object in it, for messages.

    Raises:
        PolicyError: An entry is unknown or of another kind.
    """
    known = {entry.name: entry for entry in fields(kind)}  # pyright: ignore[reportArgumentType]
    if not isinstance(raw, dict) or (unknown := sorted(set(raw) - set(known))):
        said = ", ".join(unknown) if isinstance(raw, dict) else "no object"
        raise PolicyError(f"{where}: unknown entries ({said}); known: {', '.join(known)}")
    values = {}
    for name, found in raw.items():
        default = known[name].default
        if is_dataclass(default):
            values[name] = read_policy(type(default), found, f"{where}: {name}")
            continue
        values[name] = tuple(found) if isinstance(found, list) else found
        if not _fits(name, values[name], default):
            raise PolicyError(f"{where}: {name} cannot be {values[name]!r}")
    return kind(**values)


def _fits(name: str, value: object, default: object) -> bool:
    """Whether a value is of its entry's kind: yes or no, a positive number, or a list."""
    if isinstance(default, bool):
        return isinstance(value, bool)
    if value is None:
        return default is None
    if isinstance(default, (int, float)) or name in NUMBERS:
        whole = isinstance(value, int) and not isinstance(value, bool)
        fraction = isinstance(default, float) or NUMBERS.get(name) is float
        right = whole or (isinstance(value, float) and fraction)
        return right and isinstance(value, (int, float)) and 0 < value < math.inf
    kind = int if name in WHOLE else str
    return isinstance(value, tuple) and all(type(item) is kind for item in value)


def _depth(text: str) -> int:
    """Deepest nesting of JSON, found without parsing it."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    deepest = depth = 0
    for character in bare:
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    return deepest


@dataclass(frozen=True)
class Errand:
    """What a task is about, before its arrays are read.

    Attributes:
        run: Number of the run.
        round: From 1.
        client_id: Logical id.
        node_id: Of the node that was asked.
        fingerprint: Of the layout of the model, as the device built it.
        task: Digest of the task, where the same one may be answered again.
    """

    run: int
    round: int
    client_id: int
    node_id: int
    fingerprint: str
    task: str = ""


@dataclass
class Guard:
    """Holds tasks against a policy and a ledger, before anything is computed.

    Attributes:
        policy: Of the device.
        ledger: Of the device.
    """

    policy: ClientPolicy
    ledger: Ledger
    _first_asked: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, policy: ClientPolicy | None = None) -> "Guard":
        """The guard of a device whose state is in `folder`, with the policy file there if any."""
        path = folder / POLICY
        if policy is None:
            policy = ClientPolicy.load(path) if path.exists() else ClientPolicy()
        return cls(policy, Ledger(folder))

    def check_settings(self, text: str) -> None:
        """Refuses settings that are too long or too deep to parse, or hold what JSON has not.

        Raises:
            Rejected: With the code of all refusals.
        """
        if len(text.encode()) > self.policy.max_settings_bytes:
            raise Rejected(REFUSED)
        if _depth(text) > self.policy.max_settings_depth:
            raise Rejected(REFUSED)
        try:
            json.loads(text, parse_constant=_no_constant)
        except ValueError:
            raise Rejected(REFUSED) from None

    def begin(
        self,
        errand: Errand,
        config: FederateConfig,
        samples_of: Callable[[int], int | None],
        is_private: bool,
    ) -> None:
        """Lets a task begin that the policy allows; its round is used up either way, unless the
        task is of another client, round or hour.

        Args:
            errand: What is asked.
            config: Settings of the run.
            samples_of: How many samples a logical client holds here; None for one that is not here.
            is_private: Whether the data are.

        Raises:
            Rejected: With the code of all refusals.
        """
        policy, num_samples = self.policy, samples_of(errand.client_id)
        if num_samples is None or not self._is_own(errand):
            raise Rejected(REFUSED)
        latest = min(policy.max_rounds, config.num_rounds)
        if not 1 <= errand.round <= latest:
            raise Rejected(REFUSED)
        self.check_occasion()
        client, run, number = errand.client_id, errand.run, errand.round
        most = policy.max_runs
        if not self.ledger.begin(client, run, number, task=errand.task, most_runs=most):
            raise Rejected(REFUSED)
        least = max(policy.min_samples, policy.min_private_samples if is_private else 1)
        batches = math.ceil(num_samples / config.optim_options.batch_size)
        known = policy.architectures
        if (
            num_samples < least
            or batches * config.local_epochs > policy.max_steps
            or (known is not None and errand.fingerprint not in known)
            or not policy.allows(config)
        ):
            raise Rejected(REFUSED)

    def _is_own(self, errand: Errand) -> bool:
        if self.policy.client_ids is not None:
            return errand.client_id in self.policy.client_ids
        return self._first_asked.setdefault(errand.node_id, errand.client_id) == errand.client_id

    def recognize(self, errand: Errand, is_here: bool) -> None:
        """Refuses a message to a client that is not this device's.

        Raises:
            Rejected: With the code of all refusals.
        """
        if not (is_here and self._is_own(errand)):
            raise Rejected(REFUSED)

    def check_occasion(self) -> None:
        """Refuses outside the owner's hours, and on a low battery.

        Raises:
            Rejected: With the code of all refusals.
        """
        policy = self.policy
        if not (within(policy.hours, now()) and lasts(policy.least_battery, battery())):
            raise Rejected(REFUSED)

    def check_weights(self, *vectors: np.ndarray) -> None:
        """Refuses weights that are not finite, before they meet any data.

        Raises:
            Rejected: With the code of all refusals.
        """
        from pchmr.federated.fold import vector_norm

        with np.errstate(over="ignore", invalid="ignore"):
            if not all(math.isfinite(vector_norm(vector)) for vector in vectors):
                raise Rejected(REFUSED)

    def withhold(self, update: Update) -> Update:
        """The update without a loss that depends on too few samples."""
        if update.num_samples >= self.policy.min_samples_for_loss:
            return update
        return Update(update.arrays, update.num_samples, update.num_steps, None)


def _no_constant(name: str) -> None:
    raise ValueError(name)
