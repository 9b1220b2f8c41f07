"""Differential privacy of clients: one clipped vector, noise of the right size, honest epsilons."""

import math
import os

import numpy as np
import pytest
from scipy import stats
from toy import config_of, folder, world_of

from pchmr.config import PrivacyOptions, SettingError
from pchmr.federated import run_federated
from pchmr.federated.accounting import (
    GaussianNoise,
    clipped,
    epsilon_of,
    gaussian_divergence,
    guarantee,
    most_changed,
    skellam_divergence,
    wrap_bound,
)
from pchmr.federated.clip_gate import ClipGate
from pchmr.federated.secure.encoding import coders, decode, encode
from pchmr.federated.secure.masks import stream
from pchmr.federated.secure.messages import Group
from pchmr.federated.secure.noise import (
    MOST_DEVIATION,
    TAIL,
    honest_survivors,
    noisy_capacity,
    rounded,
    rounded_length,
    skellam,
    uniforms,
)
from pchmr.federated.secure.policy import threshold_of
from pchmr.federated.secure.rehearsal import settings_of
from pchmr.federated.update import Rejected, Update

NOISED = PrivacyOptions(dp_noise_multiplier=1.0, dp_clip=0.5)
HIDDEN = PrivacyOptions(aggregation="secure", dp_noise_multiplier=1.0, dp_clip=0.5)


def update_of(values: np.ndarray) -> Update:
    return Update({"delta": values.astype(np.float32)}, 17, 3, 4.0)


def test_one_vector_leaves_and_it_is_no_longer_than_the_clip() -> None:
    long = clipped(update_of(np.full(100, 3.0)), 0.5)
    assert np.linalg.norm(long.arrays["delta"]) == pytest.approx(0.5, rel=1e-5)
    assert (long.num_samples, long.num_steps, long.loss_sum) == (1, 1, None)
    short = clipped(update_of(np.full(4, 0.1)), 0.5)
    np.testing.assert_array_equal(short.arrays["delta"], np.full(4, 0.1, dtype=np.float32))
    for bad in (math.nan, math.inf, 3e38):
        assert not clipped(update_of(np.array([1.0, bad, bad])), 0.5).arrays["delta"].any()


def test_the_gate_compares_nobody_with_anybody() -> None:
    gate, none = ClipGate.within(0.5, 9), np.empty(0, dtype=np.float32)
    nowhere = np.empty(0, dtype=bool)
    small = [clipped(update_of(np.full(9, 1e-9)), 0.5) for _ in range(5)]
    large = clipped(update_of(np.full(9, 9.0)), 0.5)
    replies = [gate.admit(i, u, none, nowhere) for i, u in enumerate([*small, large])]
    gate.judge(replies)
    assert all(reply.is_whole for reply in replies) and not gate.memory
    for bad in (Update(large.arrays, 2, 1, None), Update(large.arrays, 1, 1, 0.5)):
        with pytest.raises(Rejected, match="num_samples"):
            gate.admit(0, bad, none, nowhere)
    with pytest.raises(Rejected, match="norm"):
        gate.admit(0, Update(update_of(np.full(9, 1.0)).arrays, 1, 1, None), none, nowhere)


def test_uniforms_and_normal_noise_have_their_distributions() -> None:
    drawn = uniforms(40_000, stream(os.urandom(32)))
    assert stats.kstest(drawn, "uniform").pvalue > 1e-6
    values = np.zeros(40_000, dtype=np.float32)
    GaussianNoise(2.0).add(values)
    assert stats.kstest(values, "norm", (0, 2.0)).pvalue > 1e-6


@pytest.mark.parametrize("variance", [0.7, 40.0, 2e5])
def test_skellam_noise_has_its_distribution(variance: float) -> None:
    drawn = skellam(60_000, variance, stream(os.urandom(32)))
    known = stats.skellam(variance / 2, variance / 2)
    assert drawn.var() == pytest.approx(variance, rel=0.06)
    edges = np.unique(np.rint(np.sqrt(variance) * np.array([-1.5, -0.5, 0.5, 1.5])))
    chances = np.diff([0.0, *known.cdf(edges), 1.0])
    counts = np.histogram(drawn, [-np.inf, *(edges + 0.5), np.inf])[0]
    assert stats.chisquare(counts, 60_000 * chances / chances.sum()).pvalue > 1e-6


def test_rounding_keeps_its_length_and_its_mean() -> None:
    wanted = np.full(400, 0.3)
    longest = rounded_length(float(np.linalg.norm(wanted)), 400)
    noise = stream(os.urandom(32))
    found = np.stack([rounded(wanted, longest, noise) for _ in range(200)])
    assert (np.linalg.norm(found, axis=1) <= longest).all()
    assert found.mean() == pytest.approx(0.3, abs=0.02)


def test_noisy_sums_pass_the_ring_and_hold_enough_noise() -> None:
    num, size, noise = 10, 3000, 1.0
    settings = settings_of(Group("delta", size, 0.5, False, 1), noise=noise)
    room = noisy_capacity(20, num, threshold_of(num), noise, size)
    spread = noise * math.sqrt(num / honest_survivors(num, threshold_of(num)))
    assert num * room + TAIL * spread * rounded_length(float(room), size) <= 2**19 < 1.01 * 2**19
    assert coders(settings, num)[0].capacity == room
    random, total = np.random.default_rng(3), np.zeros(size, dtype=np.uint32)
    rows = random.normal(0, 1, (num, size)).astype(np.float32)
    for row in rows:
        total += np.concatenate([c.copy() for c in encode(settings, num, [row], 1.0)])
    (found,) = decode(settings, num, total & np.uint32(2**20 - 1))
    exact = (0.5 * rows / np.linalg.norm(rows, axis=1, keepdims=True)).sum(0)
    off = (found - exact).std()
    assert 0.5 * spread * 0.9 <= off <= 0.5 * spread * 1.15


def test_epsilons_are_those_of_the_literature() -> None:
    pytest.importorskip("dp_accounting", reason="pip install dp-accounting")
    gaussian = gaussian_divergence(1.0)
    assert epsilon_of(gaussian, 50, 1e-2) == pytest.approx(44.4, rel=0.01)
    near = skellam_divergence(1.0, 18_000.0, 10**6)
    assert near == pytest.approx({order: gaussian[order] for order in near}, rel=0.01)
    coarse = skellam_divergence(1.0, 20.0, 10**4)
    assert all(value > gaussian[order] for order, value in coarse.items())
    assert epsilon_of(gaussian, 0, 1e-2) == 0.0


def test_the_divergence_bounds_what_skellam_noise_tells() -> None:
    """Against the exact divergence of two shifted Skellam variables, one coordinate."""
    variance, shift = 60.0, 4
    values = np.arange(-150, 151)
    known = stats.skellam(variance / 2, variance / 2)
    log_p, log_q = known.logpmf(values), known.logpmf(values - shift)
    bounds = skellam_divergence(math.sqrt(variance) / shift, float(shift), 1)
    for order, bound in [*bounds.items()][:6]:
        exact = np.log(np.exp(order * log_p - (order - 1) * log_q).sum()) / (order - 1)
        assert exact <= bound


@pytest.mark.parametrize("options", [NOISED, HIDDEN])
def test_a_noised_run_tells_its_epsilon_and_nothing_of_a_client(options, tmp_path) -> None:
    pytest.importorskip("dp_accounting", reason="pip install dp-accounting")
    cohort = {"num_clients": 5, "clients_per_round": 5, "num_rounds": 2}
    config = config_of({"batch_norm": "freeze"}, privacy_options=options, **cohort)
    result = run_federated(config, world_of(config), folder(tmp_path))
    row = result.rows[-1]
    assert row["changed"] and row["client_samples"] == row["update_norms"] == []
    assert row["num_samples"] == 0 and row["losses"] == {"total": None}
    assert row["server_saw"]["sample_counts"] == 0
    known = result.guarantee
    assert known is not None and known.num_rounds == 2
    central = epsilon_of(gaussian_divergence(1.0), 2, 1e-2)
    assert central <= known.epsilon * 1.0001 <= 1.05 * central
    assert "no amplification" in known.words() and "client" in known.unit
    once = [row | {"changed": False} for row in result.rows]
    assert most_changed(once) == 0 and most_changed(result.rows) == 2
    assert guarantee(config, 0, 10, "at random").epsilon == 0.0


def test_the_bound_on_a_sum_that_leaves_the_ring_is_computed() -> None:
    """Against exact tails of one entry, and from the numbers of the round."""
    for deviation in (0.5, 3.0, 40.0):
        variance = deviation**2 * 10 / 4
        tail = 2 * stats.skellam(variance / 2, variance / 2).sf(TAIL * math.sqrt(variance) - 1)
        assert tail <= wrap_bound(deviation, 10, 7, 1)
    assert wrap_bound(40.0, 10, 7, 100) == pytest.approx(100 * wrap_bound(40.0, 10, 7, 1))
    assert 0 < wrap_bound(40.0, 10, 7, 33_000_000) < 1e-20
    assert wrap_bound(0.2, 10, 7, 33_000_000) > 1e-20


def test_a_wide_ring_needs_no_long_table_of_noise() -> None:
    """32 bits and few values: the table of Skellam noise would not fit into memory."""
    clip = noisy_capacity(32, 10, 7, 1.0, 100)
    assert 2**19 < clip <= MOST_DEVIATION
    for bits in (16, 18, 20):
        assert noisy_capacity(bits, 10, 7, 1.0, 100) > 2 ** (bits - 1) / 40


def test_running_statistics_may_not_leave_beside_the_vector(tmp_path) -> None:
    pytest.importorskip("dp_accounting", reason="pip install dp-accounting")
    config = config_of(privacy_options=NOISED)
    with pytest.raises(SettingError, match="--batch-norm freeze"):
        run_federated(config, world_of(config), folder(tmp_path))
