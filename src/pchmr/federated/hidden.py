"""What of an update is summed under masks, in which ranges, and what becomes of the sum.

Everything that depends on data is in the vector: weight changes, running statistics, the change of
a control variate, counts, the summed loss. Ranges follow from what everybody knows: the learning
rate of the round, the most steps of a client, the gradient clip, the global statistics. A client
clips to them itself, which is proved to nobody. One whose training diverged adds nothing and looks
like the others. Knows no framework; the protocol is in `secure/`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32

from pchmr.config import FederateConfig
from pchmr.federated.algorithms import ALGORITHMS, Totals
from pchmr.federated.moments import FIRST, SECOND
from pchmr.federated.secure.messages import Group, RoundOffer, Settings
from pchmr.federated.secure.policy import threshold_of
from pchmr.federated.secure.refusal import Reason, refuse_unless
from pchmr.federated.update import SECURE_SCHEMA, SchemaSummary, Update
from pchmr.federated.vector import FlatSpec

Values = Float32[np.ndarray, " _"]
STEP_SLACK = 2.0  # an entry moves by about a learning rate a step; this leaves room for its start
STATISTICS_RANGE = 16.0  # of the global deviation, or variance, as which statistics are told
CONTROL_RANGE = 32.0  # entries of a clipped gradient, in what they are if all are alike
LOSS_RANGE = 1e3  # of one sample
LEAST_VARIANCE = 1e-5  # as in the normalization layers
MOST_RANGE, LEAST_RANGE = 1e9, 1e-9  # as the policy of clients has them
RANGE_DIGITS = 1e-9  # as far as two machines may be apart in a range
WIDE_BITS = 28  # from here on one element is fine enough for a count
WEIGHTED = ("delta", FIRST, SECOND)
NUMBERS = ("samples", "sample_steps", "weight", "loss", "told")


@dataclass(frozen=True)
class HiddenSum:
    """What a round's vectors hold, for a model, a config and the largest client.

    Attributes:
        config: Of the run.
        sizes: Lengths of an update's arrays.
        most_samples: No client counts for more: public, a power of two.
    """

    config: FederateConfig
    sizes: dict[str, int]
    most_samples: int

    @property
    def is_noised(self) -> bool:
        """Whether the vector is one clipped update with noise, and nothing beside it."""
        return self.config.privacy_options.is_noised

    @property
    def most_steps(self) -> int:
        """Of a client in a round."""
        return steps_of(self.config, self.most_samples)

    @property
    def most_weight(self) -> float:
        """Of a client in the mean of updates."""
        batch = min(self.config.optim_options.batch_size, self.most_samples)
        return max(weight_of(self.config, count) for count in (batch, self.most_samples))

    def settings(self, round_number: int, training: bytes) -> Settings:
        """How a round's vectors are encoded."""
        options = self.config.privacy_options
        groups, noise = self._groups(round_number), options.dp_noise_multiplier or 0.0
        cap = 1.0 if self.is_noised else self.most_weight
        return Settings(options.secure_bits, cap, noise, training, groups)

    def _groups(self, round_number: int) -> tuple[Group, ...]:
        options, config = self.config.optim_options, self.config
        clip = config.privacy_options.dp_clip
        if clip is not None:
            return (Group("delta", self.sizes["delta"], clip, False, 1),)
        reach = STEP_SLACK * _rate(config, round_number) * self.most_steps
        ranges = {"delta": reach, "buffers": STATISTICS_RANGE, "control": 2 * options.clip}
        if options.clip_by == "norm":
            ranges["control"] *= min(1.0, CONTROL_RANGE / math.sqrt(self.sizes["delta"]))
        ranges |= {FIRST: ranges["control"] / 2, SECOND: (ranges["control"] / 2) ** 2}
        arrays = [
            Group(name, size, _bounded(ranges[name]), name in WEIGHTED, 2 if name == SECOND else 1)
            for name, size in self.sizes.items()
        ]
        return (*arrays, *self._numbers())

    def _numbers(self) -> list[Group]:
        most = float(self.most_samples)
        ranges = (most, most * self.most_steps, self.most_weight, most * LOSS_RANGE, most)
        limbs = 1 if self.config.privacy_options.secure_bits >= WIDE_BITS else 2
        named = zip(NUMBERS, ranges, strict=True)
        return [Group(name, 1, _bounded(most), False, limbs) for name, most in named]

    def summary(self) -> SchemaSummary:
        """What leaves a client in every round."""
        settings = self.settings(1, bytes(32))
        bits, size = settings.bits, settings.num_elements
        beside = [] if self.is_noised else list(NUMBERS)
        inside = ", ".join([*(["delta"] if self.is_noised else self.sizes), *beside])
        return SchemaSummary(
            schema=SECURE_SCHEMA,
            arrays={f"sum under masks ({inside})": f"uint{bits}[{size}]"},
            numbers=[],
            echoes=["keys, sealed shares and signatures of the round"],
        )


def check_encoding(
    config: FederateConfig,
    sizes: Mapping[str, int],
    offer: RoundOffer,
    num_samples: int,
    most_samples: int,
) -> None:
    """Refuses a round that does not follow from the config: size, noise, clip, ring, groups, cap.

    The bound on samples alone is the server's word; it is public and coarse.

    Args:
        config: That the client trains by.
        sizes: Lengths of an update's arrays.
        offer: Of the round.
        num_samples: Of the client.
        most_samples: The largest bound that the client's policy allows.

    Raises:
        Refusal: The encoding is another one.
    """
    told, most = offer.settings, 1
    size, least = len(offer.cohort), least_survivors(config)
    same = size == config.clients_per_round and offer.threshold == least
    refuse_unless(same, Reason.WRONG_CONFIG, f"{offer.threshold} of {size} is not the config's")
    if not config.privacy_options.is_noised:
        bound = next((group.bound for group in told.groups if group.name == NUMBERS[0]), 0.0)
        fits = 1 <= num_samples <= bound <= most_samples and bound == public_bound(int(bound))
        refuse_unless(fits, Reason.WRONG_CONFIG, f"{bound} samples are no bound for the client's")
        most = int(bound)
    own = HiddenSum(config, dict(sizes), most).settings(offer.round, told.training)
    refuse_unless(_alike(own, told), Reason.WRONG_CONFIG, "the encoding is not the config's")


def _alike(own: Settings, told: Settings) -> bool:
    """Whether settings are the same but for the last digits that another machine computes."""

    def close(found: float, wanted: float) -> bool:
        return math.isclose(found, wanted, rel_tol=RANGE_DIGITS)

    if len(own.groups) != len(told.groups):
        return False
    pairs = list(zip(own.groups, told.groups, strict=True))
    groups = tuple(replace(mine, bound=theirs.bound) for mine, theirs in pairs)
    near = all(close(mine.bound, theirs.bound) for mine, theirs in pairs)
    same = replace(own, groups=groups, weight_cap=told.weight_cap) == told
    return same and near and close(own.weight_cap, told.weight_cap)


def steps_of(config: FederateConfig, num_samples: int) -> int:
    """Optimizer steps that a client with so many samples takes in a round."""
    return math.ceil(num_samples / config.optim_options.batch_size) * config.local_epochs


def weight_of(config: FederateConfig, num_samples: int) -> float:
    """What a client counts in the mean of updates."""
    return ALGORITHMS[config.algorithm].weight(num_samples, steps_of(config, num_samples))


def public_bound(num_samples: int) -> int:
    """The least power of two that is no less: tells little of the largest client."""
    return 1 << max(0, num_samples - 1).bit_length()


def _rate(config: FederateConfig, round_number: int) -> float:
    """The learning rate at the start of a round."""
    from pchmr.training import schedule

    passes = config.num_rounds * config.local_epochs
    factor = schedule(config.server_options.round_schedule, passes)
    epoch = float((round_number - 1) * config.local_epochs)
    return config.optim_options.learning_rate * factor(epoch)


def _bounded(value: float) -> float:
    return min(max(value, LEAST_RANGE), MOST_RANGE)


def statistics_units(spec: FlatSpec, statistics: Float[np.ndarray, " size"]) -> Values:
    """What each running statistic is told in: the global variance, for a mean its root."""
    units = np.ones(spec.num_buffers, dtype=np.float32)
    places = {slot.name: slice(slot.start, slot.stop) for slot in spec.buffers}
    for name, place in places.items():
        layer, _, kind = name.rpartition("running_")
        spread = np.maximum(statistics[places[f"{layer}running_var"]], 0.0) + LEAST_VARIANCE
        units[place] = spread if kind == "var" else np.sqrt(spread)
    return units


@dataclass(frozen=True)
class Vector:
    """What a client sums: a flat array a group, and its weight."""

    values: list[Values]
    weight: float


def vector_of(
    settings: Settings, update: Update, weight: float, drift: Values | None, *, noised: bool
) -> Vector:
    """The groups of an update; zeros for one that is not finite.

    Args:
        settings: Of the round.
        update: What the client learned.
        weight: Of the client.
        drift: Change of the running statistics in their units.
        noised: Whether the update alone is told.
    """
    bounds = {group.name: group.bound for group in settings.groups}
    arrays = dict(update.arrays)
    if drift is not None:
        share = min(1.0, update.num_samples / bounds.get("samples", 1.0))
        arrays["buffers"] = drift * np.float32(share)
    told = 0 if update.loss_sum is None else update.num_samples
    numbers = (
        update.num_samples,
        update.num_samples * update.num_steps,
        weight,
        update.loss_sum or 0.0,
        told,
    )
    for name, number in zip(NUMBERS, numbers, strict=True):
        arrays[name] = np.full(1, number, dtype=np.float32)
    values = [arrays[group.name] for group in settings.groups if group.name in arrays]
    if not all(np.isfinite(array).all() for array in values):
        values = [np.zeros_like(array) for array in values]
    return Vector(values, 1.0 if noised else min(weight, settings.weight_cap))


@dataclass(frozen=True)
class Opened:
    """What a round's sum says.

    Attributes:
        delta: Sum of updates by weight, in units of `unit`.
        unit: The largest weight.
        drift: Sum of the drift of statistics, in their units, by samples in units of `most`.
        most: The most samples.
        control: Sum of the changes of control variates.
        moments: Sums of the moments of optimizers by weight, in units of `unit`.
        totals: Of the survivors.
        loss_sum: Of the samples whose loss is told.
        num_told: How many those are.
    """

    delta: Values
    unit: float
    drift: Values | None
    most: float
    control: Values | None
    moments: Mapping[str, Values]
    totals: Totals
    loss_sum: float
    num_told: int


def opened(settings: Settings, sums: Sequence[Values], num_survivors: int) -> Opened:
    """Reads the sums of a round's groups."""
    named = {group.name: values for group, values in zip(settings.groups, sums, strict=True)}
    bounds = {group.name: group.bound for group in settings.groups}
    if settings.noise:
        count = float(num_survivors)
        totals = Totals(num_survivors, count, count, count)
        return Opened(named["delta"], 1.0, None, 1.0, None, {}, totals, 0.0, 0)
    samples, steps, weight, loss, told = (float(named[name][0]) for name in NUMBERS)
    totals = Totals(num_survivors, float(round(samples)), float(round(steps)), weight)
    return Opened(
        delta=named["delta"],
        unit=settings.weight_cap,
        drift=named.get("buffers"),
        most=bounds["samples"],
        control=named.get("control"),
        moments={name: named[name] for name in (FIRST, SECOND) if name in named},
        totals=totals,
        loss_sum=loss,
        num_told=round(told),
    )


def least_survivors(config: FederateConfig) -> int:
    """Fewest clients whose sum is opened: the protocol's threshold, or what was asked for."""
    asked = config.server_options.min_good_replies or 0
    return max(threshold_of(config.clients_per_round), asked)
