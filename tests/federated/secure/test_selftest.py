"""Every lie of the self-test is refused or gives noise, and its controls can fail."""

import pytest

from pchmr.federated.flower import lies as tasks
from pchmr.federated.secure import selftest
from pchmr.federated.secure.lies import LIES, Lie
from pchmr.federated.secure.refusal import Reason


@pytest.mark.whole
def test_every_lie_is_refused() -> None:
    scene = selftest.new_scene()
    told = {name: selftest.tell(lie, scene) for name, lie in LIES.items()}
    assert set(told.values()) == {selftest.REFUSED}, told


@pytest.mark.parametrize("name", selftest.STORIES)
def test_a_story_ends_well(name: str) -> None:
    assert selftest.STORIES[name]() in (selftest.REFUSED, selftest.NOISE)


def test_the_honest_round_is_no_noise() -> None:
    assert selftest.nothing_changed() == selftest.ANSWERED


def test_a_lie_that_is_believed_is_found(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(
        "pchmr.federated.secure.client.check_unmasking", lambda state, request: None
    )
    lie: Lie = LIES["both shares of a survivor"]
    assert selftest.tell(lie, selftest.new_scene()).startswith(selftest.ANSWERED)
    monkeypatch.setattr(selftest, "LIES", {"both shares": lie})
    monkeypatch.setattr(selftest, "STORIES", {})
    assert selftest.main() == 1
    assert "1 lies, 1 of them answered" in capsys.readouterr().out
    assert lie.reason == Reason.FALSE_SURVIVORS


def test_a_round_without_a_lie_beside_its_messages_is_opened() -> None:
    for privacy in (tasks.SECURE, tasks.NOISED):
        played = tasks.play(tasks.Lie(Reason.REPLAY, privacy=privacy))
        assert played.is_opened and played.trained == set(range(5)) and not played.refusals


def test_a_lie_beside_the_messages_that_is_believed_is_found(monkeypatch) -> None:
    """Without the comparison of settings, four clients train at another rate than the victim."""
    monkeypatch.setattr(
        "pchmr.federated.secure.client.SecureClient._check_training", lambda self, offer: None
    )
    monkeypatch.setattr("pchmr.federated.hidden.check_encoding", lambda *told: None)
    lie = tasks.LIES["another learning rate with masked"]
    assert tasks.play(lie).is_opened and not tasks.is_refused(lie)
