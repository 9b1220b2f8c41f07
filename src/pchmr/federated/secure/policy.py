"""What a client asks of a round before it takes part, and what it remembers across rounds.

The server cannot lower any of it: the policy is a file on the device, the ledger is written before
an answer leaves. Neither holds anything secret.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from pchmr.federated.secure.messages import MOST_CLIENTS, RoundOffer, Settings
from pchmr.federated.secure.refusal import Reason, Refusal, refuse_unless


def threshold_of(num_clients: int) -> int:
    """Shares that are needed to open a secret: floor(2n / 3) + 1 of n.

    With t > n / 2 no two disjoint halves of a cohort can be told different lists.
    """
    return 2 * num_clients // 3 + 1


@dataclass(frozen=True, kw_only=True)
class SecurePolicy:
    """The secure half of a client's policy.

    Attributes:
        least_cohort: Fewest clients of a round; the sum of fewer says much about each.
        least_threshold: Fewest clients whose sum is opened.
        least_difference: Two cohorts of a client are the same, or each holds at least this many
            clients that the other does not; the difference of two sums is then of so many.
        keep_survivors_apart: Sign for survivors only if each earlier round's were the same or
            differ by `least_difference` clients: a server that feigns that one client is lost gets
            no second sum, but neither does one that lost one client in truth.
        bits: Width of the ring, or None for any in which the encoding fits.
        most_weight: The largest weight cap.
        most_samples: The largest bound on a client's samples, from which ranges follow.
        least_bound: The smallest range of a group.
        most_bound: The largest range of a group.
        least_noise: The least noise of a sum, in clips; None takes part without noise.
        trust_on_first_use: Pin the server's roster at joining where none is pinned.
    """

    least_cohort: int = 5
    least_threshold: int = 4
    least_difference: int = 2
    keep_survivors_apart: bool = False
    bits: int | None = None
    most_weight: float = 1e6
    most_samples: int = 2**20
    least_bound: float = 1e-9
    most_bound: float = 1e9
    least_noise: float | None = None
    trust_on_first_use: bool = False

    def check_offer(self, offer: RoundOffer) -> None:
        """Refuses what the policy does not allow.

        Raises:
            Refusal: Cohort, threshold or settings are out of bounds.
        """
        size, least = len(offer.cohort), self.least_cohort
        refuse_unless(size >= least, Reason.SMALL_COHORT, f"{size} clients, at least {least}")
        refuse_unless(size <= MOST_CLIENTS, Reason.LARGE_COHORT, too_many(size))
        least = max(threshold_of(size), self.least_threshold)
        enough = least <= offer.threshold <= size
        refuse_unless(enough, Reason.LOW_THRESHOLD, f"{offer.threshold} is not in {least}..{size}")
        self.check_settings(offer.settings)

    def check_settings(self, settings: Settings) -> None:
        """Refuses a ring, a weight cap or a range out of bounds.

        Raises:
            Refusal: One is.
        """
        ring = 1 <= settings.bits <= 32 and self.bits in (None, settings.bits)
        bounds = all(self.least_bound <= g.bound <= self.most_bound for g in settings.groups)
        known = all(g.limbs in (1, 2) for g in settings.groups)
        weight = 0 < settings.weight_cap <= self.most_weight
        for fits, what in (
            (ring, f"a ring of {settings.bits} bits"),
            (bounds and known, "a group's range"),
            (weight, f"a weight cap of {settings.weight_cap}"),
            (settings.noise >= (self.least_noise or 0.0), f"noise of {settings.noise} clips"),
        ):
            refuse_unless(fits, Reason.WRONG_CONFIG, f"{what} is not what the policy allows")


SECURE = SecurePolicy()


def too_many(size: int) -> str:
    """Why a cohort is too large."""
    return (
        f"{size} clients; every pair shares a mask here, which holds up to {MOST_CLIENTS}: larger "
        "cohorts need a sparse graph and with it the malicious variant of Bell et al. 2020"
    )


Member = TypeVar("Member", bytes, int)


def may_overlap(cohort: frozenset[Member], earlier: frozenset[Member], least: int) -> bool:
    """Whether two cohorts are the same, or differ by at least `least` clients on either side."""
    return cohort == earlier or min(len(cohort - earlier), len(earlier - cohort)) >= least


@dataclass
class Ledger:
    """What a client must not forget: it is written to disk before an answer leaves.

    Attributes:
        last: The last round and attempt of each run, by the run's hexadecimal name.
        models: Digests of the models for which a vector was made.
        cohorts: Cohorts with which a vector was made.
        unmasked: Contexts of rounds in which shares were given.
        survived: Sets of survivors that were signed.
    """

    last: dict[str, tuple[int, int]] = field(default_factory=dict)
    models: set[bytes] = field(default_factory=set)
    cohorts: set[frozenset[bytes]] = field(default_factory=set)
    unmasked: set[bytes] = field(default_factory=set)
    survived: set[frozenset[bytes]] = field(default_factory=set)

    def check_offer(self, offer: RoundOffer, policy: SecurePolicy) -> None:
        """Refuses a round that was, a model that had its vector, and a cohort that isolates.

        Raises:
            Refusal: One of these.
        """
        newer = (offer.round, offer.attempt) > self.last.get(offer.run.hex(), (-1, -1))
        refuse_unless(newer, Reason.REPLAY, f"round {offer.round} was offered before")
        self.check_model(offer.model)
        cohort = frozenset(offer.cohort)
        apart = all(may_overlap(cohort, old, policy.least_difference) for old in self.cohorts)
        least = policy.least_difference
        message = f"the cohort differs from an earlier one by fewer than {least} clients"
        refuse_unless(apart, Reason.COHORT_OVERLAP, message)

    def check_model(self, model: bytes) -> None:
        """Refuses a second vector for one model.

        Raises:
            Refusal: There was one.
        """
        message = "a vector was made for this model already; the difference of two sums would tell"
        refuse_unless(model not in self.models, Reason.MODEL_AGAIN, message)

    def note_offer(self, offer: RoundOffer) -> None:
        """Remembers that this round was answered."""
        self.last[offer.run.hex()] = (offer.round, offer.attempt)

    def note_vector(self, offer: RoundOffer) -> None:
        """Remembers that a vector is about to leave."""
        self.check_model(offer.model)
        self.models.add(offer.model)
        self.cohorts.add(frozenset(offer.cohort))

    def note_survivors(self, survivors: frozenset[bytes], policy: SecurePolicy) -> None:
        """Remembers for whose sum a signature is about to leave.

        Raises:
            Refusal: The policy asks to keep it apart from an earlier one, and it is near to one.
        """
        least = policy.least_difference if policy.keep_survivors_apart else 0
        apart = all(survivors == old or len(survivors ^ old) >= least for old in self.survived)
        message = f"the survivors differ from earlier ones by fewer than {least} clients"
        refuse_unless(apart, Reason.COHORT_OVERLAP, message)
        self.survived.add(survivors)

    def note_unmasking(self, context: bytes) -> None:
        """Remembers that shares are about to leave.

        Raises:
            Refusal: They did before.
        """
        message = "shares were given in this round"
        refuse_unless(context not in self.unmasked, Reason.REPLAY, message)
        self.unmasked.add(context)

    def to_bytes(self) -> bytes:
        """As JSON."""
        plain = {
            "last": {run: list(place) for run, place in self.last.items()},
            "models": _hex(self.models),
            "cohorts": sorted(_hex(cohort) for cohort in self.cohorts),
            "unmasked": _hex(self.unmasked),
            "survived": sorted(_hex(survivors) for survivors in self.survived),
        }
        return json.dumps(plain).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Ledger":
        """From JSON.

        Raises:
            Refusal: The bytes are no ledger; a client without its memory takes no part.
        """
        try:
            plain = json.loads(data)
            return cls(
                {run: (int(at[0]), int(at[1])) for run, at in plain["last"].items()},
                _unhex(plain["models"]),
                {frozenset(_unhex(cohort)) for cohort in plain["cohorts"]},
                _unhex(plain["unmasked"]),
                {frozenset(_unhex(survivors)) for survivors in plain.get("survived", ())},
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise Refusal(Reason.MALFORMED, "the client's ledger is damaged") from error


def _hex(digests: Iterable[bytes]) -> list[str]:
    return sorted(digest.hex() for digest in digests)


def _unhex(texts: Iterable[str]) -> set[bytes]:
    return {bytes.fromhex(text) for text in texts}
