"""When a device takes part, and which tasks it answers a second time."""

from dataclasses import replace

import pytest

from pchmr.federated.ledger import Answered, Ledger
from pchmr.federated.occasion import Battery, battery, lasts, within
from pchmr.federated.policy import ClientPolicy, Errand, Guard
from pchmr.federated.update import Rejected


@pytest.mark.parametrize(
    ("hours", "hour", "expected"),
    [(None, 3, True), ((22, 6), 23, True), ((22, 6), 5, True), ((22, 6), 6, False),
     ((22, 6), 12, False), ((9, 17), 9, True), ((9, 17), 17, False), ((0, 0), 13, True),
     ((0, 24), 13, True), ((5,), 5, False), ((1, 2, 3), 2, False)],
)  # fmt: skip
def test_hours_may_span_midnight(hours, hour, expected):
    assert within(hours, hour) is expected


def test_a_low_battery_is_spared_unless_it_is_charged(tmp_path):
    assert battery(tmp_path) is None
    place = tmp_path / "BAT0"
    place.mkdir()
    for name, text in (("type", "Battery\n"), ("status", "Discharging\n"), ("capacity", "31\n")):
        (place / name).write_text(text)
    found = battery(tmp_path)
    assert found == Battery(31, False)
    assert lasts(30, found) and not lasts(32, found) and lasts(None, found)
    assert lasts(32, replace(found, is_charged=True)) and lasts(99, None)


def test_an_owner_sets_hours_and_battery_in_the_policy_file(tmp_path, monkeypatch):
    path = tmp_path / "policy.json"
    ClientPolicy(hours=(22, 6), least_battery=30).save(path)
    assert ClientPolicy.load(path).hours == (22, 6)
    guard = Guard.of(tmp_path)
    for hour, allowed in ((23, True), (12, False)):
        monkeypatch.setattr("pchmr.federated.policy.now", lambda hour=hour: hour)
        if allowed:
            guard.check_occasion()
        else:
            with pytest.raises(Rejected):
                guard.check_occasion()


def test_the_same_task_is_answered_again_and_no_other_of_its_round(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.begin(0, 7, 3, task="a")
    assert ledger.begin(0, 7, 3, task="a")
    assert not ledger.begin(0, 7, 3, task="b")
    assert not ledger.begin(0, 7, 3)
    assert not ledger.begin(0, 7, 2, task="a")
    assert ledger.begin(0, 7, 4, task="b")
    assert not ledger.begin(0, 7, 3, task="a")


def test_runs_follow_one_another_and_none_comes_back(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.begin(0, 1, 5, most_runs=3)
    assert not Ledger(tmp_path).begin(0, 2, 1)
    assert ledger.begin(0, 2, 1, most_runs=3)
    assert not ledger.begin(0, 1, 6, most_runs=3)
    assert ledger.begin(0, 3, 1, most_runs=3)
    assert not ledger.begin(0, 4, 1, most_runs=3)
    assert ledger.answered(0) == Answered(3, 1, "", (1, 2))


def test_a_device_with_several_clients_answers_for_each_of_them(tmp_path):
    guard = Guard(ClientPolicy(client_ids=(2, 5)), Ledger(tmp_path))
    for client in (2, 5):
        guard.recognize(Errand(1, 1, client, 9, "x"), True)
    with pytest.raises(Rejected):
        guard.recognize(Errand(1, 1, 3, 9, "x"), True)
