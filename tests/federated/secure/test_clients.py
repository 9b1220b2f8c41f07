"""Who a client is, what it asks, what it remembers, and what rests on its disk."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread, get_ident

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pchmr.federated.secure import Group, Identity, Ledger, Reason, Refusal, Roster, SecurePolicy
from pchmr.federated.secure.device import SecureDevice, enroll, wipe, wipe_rounds
from pchmr.federated.secure.identity import is_signed, pinned
from pchmr.federated.secure.messages import RoundOffer
from pchmr.federated.secure.policy import may_overlap, threshold_of
from pchmr.federated.secure.refusal import RoundAborted
from pchmr.federated.secure.rehearsal import Rehearsal, make_clients, make_offer, settings_of
from pchmr.federated.secure.shamir import PRIME, combine, split
from pchmr.federated.secure.state import MOST_AGE_SECONDS, SealedState

ONE = settings_of(Group("delta", 3, 1.0, False, 1))


def refused(reason: Reason):
    return pytest.raises(Refusal, match=f"secure aggregation, {reason}: ")


def test_the_field_of_the_shares_is_a_field() -> None:
    """Lucas and Lehmer: 2^521 - 1 is prime."""
    value = 4
    for _ in range(521 - 2):
        value = (value * value - 2) % PRIME
    assert value == 0


@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.data())
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, least: int, data) -> None:
    points = list(range(1, 13))
    shares = split(secret, points, least)
    chosen = data.draw(st.sets(st.sampled_from(points), min_size=least))
    assert combine({point: shares[point] for point in chosen}) == secret


def test_one_share_too_few_gives_nothing() -> None:
    shares = split(bytes(32), [1, 2, 3, 4, 5], 4)
    assert combine({point: shares[point] for point in (1, 2, 3)}) != bytes(32)
    assert len(set(split(bytes(32), [1, 2, 3], 1).values())) == 1


def test_a_roster_is_pinned(tmp_path: Path) -> None:
    keys = [Identity.generate().public for _ in range(5)]
    roster = Roster.of(keys)
    roster.save(tmp_path / "roster.json")
    assert Roster.load(tmp_path / "roster.json") == roster == Roster.of(reversed(keys))
    assert pinned(roster, roster) is roster
    with refused(Reason.FOREIGN_ROSTER):
        pinned(roster, Roster.of([*keys, Identity.generate().public]))
    with refused(Reason.DOUBLED):
        Roster.of([*keys, keys[0]])


def test_trust_on_first_use_only_when_asked() -> None:
    roster = Roster.of([Identity.generate().public])
    with refused(Reason.FOREIGN_ROSTER):
        pinned(None, roster)
    assert pinned(None, roster, trust_on_first_use=True) == roster


@pytest.mark.parametrize("text", ["", "[]", '{"format": "other", "keys": []}', '{"keys": 3}'])
def test_a_damaged_roster_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "roster.json"
    path.write_text(text)
    with refused(Reason.MALFORMED):
        Roster.load(path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    identity, path = Identity.generate(), tmp_path / "key"
    identity.save(path)
    assert Identity.load(path).public == identity.public
    path.chmod(0o640)
    with refused(Reason.MALFORMED):
        Identity.load(path)


def test_a_signature_holds_for_one_purpose() -> None:
    identity = Identity.generate()
    signature = identity.sign(b"keys", b"text")
    assert is_signed(identity.public, b"keys", b"text", signature)
    assert not is_signed(identity.public, b"other", b"text", signature)
    assert not is_signed(Identity.generate().public, b"keys", b"text", signature)


@given(st.integers(2, 50))
def test_a_threshold_is_a_majority_that_leaves_room(num_clients: int) -> None:
    assert num_clients / 2 < threshold_of(num_clients) <= num_clients


def test_cohorts_overlap_all_or_little() -> None:
    old = frozenset(bytes([i]) for i in range(10))
    assert may_overlap(old, old, 2)
    assert not may_overlap(old - {bytes([0])}, old, 2)
    assert not may_overlap(old - {bytes([0])} | {bytes([11])}, old, 2)
    assert may_overlap(old - {bytes([0]), bytes([1])} | {bytes([11]), bytes([12])}, old, 2)


def played(clients, round_number: int = 1) -> RoundOffer:
    offer = make_offer(clients, ONE, round_number)
    values = [[np.zeros(3, dtype=np.float32)] for _ in clients]
    Rehearsal(offer, clients, values).run()
    return offer


def test_a_model_gets_one_vector_even_after_a_restart() -> None:
    clients = make_clients(5)
    offer = played(clients)
    again = replace(offer, round=2, attempt=1)
    remembered = Ledger.from_bytes(clients[0].ledger.to_bytes())
    assert remembered == clients[0].ledger
    clients[0].ledger = remembered
    with refused(Reason.MODEL_AGAIN):
        clients[0].answer_offer(again)
    clients[0].answer_offer(replace(again, model=os.urandom(32)))


def test_the_ledger_is_written_before_an_answer_leaves() -> None:
    clients, written = make_clients(5), []
    clients[0].write_ledger = lambda ledger: written.append(ledger.to_bytes())
    played(clients)
    assert len(written) == 4 and len(set(written)) == 4


@pytest.mark.parametrize(("lost", "signs"), [((), True), ((4,), False), ((4, 5), True)])
def test_survivors_may_be_kept_apart(lost: tuple[int, ...], signs: bool) -> None:
    """All of the round before, or at least two fewer; by default one fewer is signed, too."""
    for policy in (SecurePolicy(keep_survivors_apart=True), SecurePolicy()):
        clients = make_clients(8, policy)
        played(clients)
        values = [[np.zeros(3, dtype=np.float32)] for _ in clients]
        second = Rehearsal(make_offer(clients, ONE, 2), clients, values)
        second.drops = {"masked": lost}
        if signs or not policy.keep_survivors_apart:
            assert len(second.run().survivors) == 8 - len(lost)
        else:
            with pytest.raises(RoundAborted):
                second.run()
            assert set(second.refusals.values()) == {Reason.COHORT_OVERLAP}
        assert Ledger.from_bytes(clients[0].ledger.to_bytes()) == clients[0].ledger


@pytest.mark.parametrize("data", [b"", b"{}", b'{"last": 1}', b"\xff"])
def test_a_damaged_ledger_is_refused(data: bytes) -> None:
    with refused(Reason.MALFORMED):
        Ledger.from_bytes(data)


def test_a_policy_asks_for_its_ring() -> None:
    clients = make_clients(5, SecurePolicy(bits=32))
    with refused(Reason.WRONG_CONFIG):
        clients[0].answer_offer(make_offer(clients, ONE))


def test_large_cohorts_are_refused_with_the_reason() -> None:
    offer = make_offer(make_clients(5), ONE)
    with pytest.raises(Refusal, match="malicious variant"):
        SecurePolicy().check_offer(replace(offer, cohort=(bytes(32),) * 51))


def test_a_state_rests_sealed_and_is_taken_once(tmp_path: Path) -> None:
    clients = make_clients(5)
    _, state = clients[0].answer_offer(make_offer(clients, ONE))
    path, key = tmp_path / "state", clients[0].identity.state_key()
    rest = SealedState(path, key)
    rest.put(state)
    data = path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert not any(s in data for s in (state.seed, state.mask_key, state.seal_key))
    with refused(Reason.BAD_SHARE):
        SealedState(path, clients[1].identity.state_key()).take()
    rest.put(state)
    assert rest.take() == state and not path.exists()
    with refused(Reason.WRONG_STAGE):
        rest.take()


def test_of_two_that_take_a_state_at_once_one_gets_it(tmp_path: Path) -> None:
    clients, got = make_clients(5), []
    _, state = clients[0].answer_offer(make_offer(clients, ONE))
    rest = SealedState(tmp_path / "state", clients[0].identity.state_key())

    def take(start: Barrier) -> None:
        start.wait()
        with suppress(Refusal):
            got.append(rest.take())

    for number in range(1, 41):
        rest.put(state)
        at_once(*[take] * 2)
        assert len(got) == number
    assert list(tmp_path.iterdir()) == []


def at_once(*works: Callable[[Barrier], None]) -> None:
    start = Barrier(len(works))
    threads = [Thread(target=work, args=(start,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_messages_that_come_at_once_each_waits_for_the_last(tmp_path: Path) -> None:
    seen: list[int] = []
    enroll(tmp_path, 2)

    def visit(start: Barrier) -> None:
        start.wait()
        with SecureDevice(tmp_path, 0).alone():
            seen.append(get_ident())
            time.sleep(0.02)
            seen.append(get_ident())

    at_once(*[visit] * 4)
    assert seen[::2] == seen[1::2] and len(seen) == 8
    with SecureDevice(tmp_path, 0).alone(), SecureDevice(tmp_path, 1).alone():
        pass


def test_what_an_unfinished_round_left_is_overwritten(tmp_path: Path) -> None:
    """By the next round, at the end, when it is too old, and where writing was cut off."""
    clients = make_clients(5)
    _, state = clients[0].answer_offer(make_offer(clients, ONE))
    enroll(tmp_path, 1)
    place = SecureDevice(tmp_path, 0)
    rest, path = place.open_round(), place.state_path
    rest.put(state)
    with open(path, "rb") as old:
        sealed = old.read()
        rest.put(state)
        old.seek(0)
        assert len(sealed) == len(old.read()) and old.seek(0) == 0 and old.read() != sealed
    cut = path.with_name(f".{path.name}.1.tmp")
    cut.write_bytes(b"sealed")
    wipe_rounds(tmp_path, age=60.0)
    assert path.exists() and cut.exists()
    wipe_rounds(tmp_path)
    assert not path.exists() and not cut.exists()
    rest.put(state)
    long_ago = time.time() - MOST_AGE_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    with refused(Reason.WRONG_STAGE):
        rest.take()
    assert not path.exists()
    wipe(tmp_path)
    assert list((tmp_path / "secure").iterdir()) == []


def test_a_key_without_a_ledger_is_refused_with_the_cure(tmp_path: Path) -> None:
    enroll(tmp_path, 1)
    device = SecureDevice(tmp_path, 0)
    assert device.client(SecurePolicy(), bytes(32)).ledger == Ledger()
    device.ledger_path.unlink()
    enroll(tmp_path, 1)
    with pytest.raises(Refusal, match="is missing, and with it what was answered: withdraw"):
        device.client(SecurePolicy(), bytes(32))
