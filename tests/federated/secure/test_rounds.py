"""Runs whose server sees sums alone: near the plain ones, and never two vectors for a model."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as within
from hypothesis import strategies as st
from toy import ToyPeople, config_of, folder, world_of

from pchmr.config import DivergedError, PrivacyOptions, SettingError
from pchmr.door import FileError
from pchmr.federated import Engine, run_federated
from pchmr.federated.asked import AskedRecord
from pchmr.federated.client_state import ClientStates
from pchmr.federated.flower.api import (
    ClientApp,
    SharedArray,
    content_bytes,
    new_context,
    wire_array,
)
from pchmr.federated.flower.client_app import make_client_app, refusal
from pchmr.federated.flower.engines import RUN_ID
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.secure_rounds import SecureRounds
from pchmr.federated.flower.server_app import make_server_app
from pchmr.federated.hidden import HiddenSum
from pchmr.federated.outcome import Outcome
from pchmr.federated.policy import ClientPolicy
from pchmr.federated.rounds import apart_cohort
from pchmr.federated.secure import Identity
from pchmr.federated.secure.device import SecureDevice
from pchmr.federated.secure.policy import SecurePolicy, may_overlap
from pchmr.federated.task import Task
from pchmr.federated.update import UpdateSchema
from pchmr.federated.vector import FlatSpec

SECURE = PrivacyOptions(aggregation="secure")
FROZEN = {"batch_norm": "freeze"}
NOISED = {"dp_clip": 1.0, "dp_noise_multiplier": 1.0}


def settings(**changes: Any) -> Any:
    """All of five clients, one round, their sum alone."""
    server = changes.pop("server", None)
    start = {"num_clients": 5, "clients_per_round": 5, "num_rounds": 1, "privacy_options": SECURE}
    return config_of(server, **start | changes)


def vector_of(world: Any) -> np.ndarray:
    state = world.model.state_dict()
    return torch.cat([v.reshape(-1) for v in state.values() if v.is_floating_point()]).numpy()


def run(config: Any, path: Path, **more: Any) -> tuple[np.ndarray, Any]:
    world = world_of(config)
    result = run_federated(config, world, folder(path), **more)
    return vector_of(world), result


def losing(lost: Any) -> tuple[Engine, list[tuple[str, int]]]:
    """An engine that loses messages: `lost(kind, client, place)`, `place` counting those of a kind
    that were sent to the client before.
    """
    told: list[tuple[str, int]] = []

    class Lossy(InProcessGrid):
        def _carry(self, messages, timeout):
            kept = []
            for message in messages:
                kind = message.metadata.message_type.partition("sa_")[2]
                seen = (kind, message.metadata.dst_node_id - 2)
                if not lost(*seen, told.count(seen)):
                    kept.append(message)
                told.append(seen)
            return super()._carry(kept, timeout)

    def carry_out(server, world, states) -> None:
        app = make_client_app(Residence(world, states), SharedArray)
        grid = Lossy(app, server.config.num_clients, RUN_ID)
        make_server_app(server)(grid, new_context(RUN_ID, 0))

    return Engine(SharedArray, carry_out), told


@pytest.mark.parametrize(
    ("algorithm", "bits", "error"),
    [
        ("fedavg", 20, 1e-3),
        ("fedavg", 32, 1e-6),
        ("fedavgm", 20, 1e-3),
        ("fedadam", 32, 1e-6),
        ("fedyogi", 32, 1e-6),
        ("fedadagrad", 32, 1e-6),
        ("scaffold", 20, 1e-3),
        ("fednova", 32, 1e-6),
    ],
)
def test_the_sum_moves_the_model_like_single_updates(algorithm, bits, error, tmp_path):
    secure = PrivacyOptions(aggregation="secure", secure_bits=bits)
    config = settings(algorithm=algorithm, privacy_options=secure)
    start = vector_of(world_of(config))
    plain, seen = run(replace(config, privacy_options=PrivacyOptions()), tmp_path / "plain")
    hidden, result = run(config, tmp_path / "secure")
    moved = np.linalg.norm(plain - start)
    assert np.linalg.norm(hidden - plain) <= error * moved
    row, other = result.rows[0], seen.rows[0]
    assert row["sum"]["survivors"] == 5 and row["sum"]["num_samples"] == other["num_samples"]
    assert row["losses"]["total"] == pytest.approx(other["losses"]["total"], rel=1e-5)
    assert row["client_samples"] == row["update_norms"] == row["quarantined"] == []
    assert row["server_saw"] == {"individual_updates": 0, "sample_counts": 0, "aggregate": True}
    assert "no single update" in result.egress["server_sees"]
    assert row["left_client"]["numbers"] == []


def test_nothing_of_a_round_rests_on_disk_and_lengths_tell_nothing(tmp_path):
    lengths = []

    class Watch(Residence):
        def __call__(self, settings):
            lengths.append(sorted(self.state_folder.glob("secure/*.state")))
            return super().__call__(settings)

    def carry_out(server, world, states) -> None:
        app = make_client_app(Watch(world, states), SharedArray)
        make_server_app(server)(InProcessGrid(app, 5, RUN_ID), new_context(RUN_ID, 0))

    _, result = run(settings(), tmp_path, engine=Engine(SharedArray, carry_out))
    assert max(map(len, lengths)) == 5
    left = {path.name for path in (tmp_path / "clients").rglob("*") if path.is_file()}
    assert not any(name.endswith(".state") for name in left)
    assert (tmp_path / "clients" / "secure" / "client_000000.key").stat().st_mode & 0o077 == 0
    assert result.bytes_up == result.rows[0]["bytes_up"]
    more = replace(world_of(settings()), partitions=[np.arange(6) + 9 * i for i in range(5)])
    other = run_federated(settings(), more, folder(tmp_path / "other"))
    assert other.rows[0]["bytes_up"] == result.rows[0]["bytes_up"]


def test_the_size_of_a_message_is_that_of_its_serialization():
    from flwr.common.serde import recorddict_to_proto

    from pchmr.federated.flower.api import ArrayRecord, ConfigRecord, RecordDict

    for made in (SharedArray, wire_array):
        arrays = ArrayRecord()
        arrays["delta"] = made(np.arange(4000, dtype=np.float32))
        content = RecordDict({"a": arrays, "b": ConfigRecord({"message": bytes(70000)})})
        whole = recorddict_to_proto(content).ByteSize()
        assert abs(content_bytes(content) - whole) < 64


def test_a_client_that_is_lost_leaves_the_mean_of_the_others(tmp_path):
    config = settings(num_clients=6, clients_per_round=6)  # five of six are enough
    start = vector_of(world_of(config))
    six = world_of(config)
    for stage in ("masked", "unmask"):
        engine, _ = losing(lambda kind, client, place, stage=stage: (kind, client) == (stage, 2))
        found, result = run(config, tmp_path / stage, engine=engine)
        counted = range(6) if stage == "unmask" else (0, 1, 3, 4, 5)
        samples = sum(len(six.partitions[client]) for client in counted)
        assert result.rows[0]["sum"]["num_samples"] == samples
        assert result.rows[0]["quarantined"] == [{"client_id": 2, "reason": "no_reply"}]
        assert not np.array_equal(found, start)


def test_before_vectors_leave_the_same_clients_are_asked_again(tmp_path):
    engine, told = losing(lambda kind, client, place: kind == "shares" and client < 2 and not place)
    _, result = run(settings(), tmp_path, engine=engine)
    assert result.rows[0]["changed"] and result.rows[0]["given_up"] == ["shares"]
    assert told.count(("keys", 0)) == 2 and told.count(("masked", 0)) == 1


def test_after_vectors_left_nobody_is_asked_for_this_model_again(tmp_path):
    """The first cohort's vectors are lost; the second cohort is another one, or there is none."""
    engine, told = losing(lambda kind, client, place: kind == "consistency" and len(told) < 25)
    _, result = run(settings(num_clients=12), tmp_path / "spare", engine=engine)
    row = result.rows[0]
    assert row["changed"] and row["given_up"] == ["consistency"]
    asked = [client for kind, client in told if kind == "masked"]
    assert len(asked) == len(set(asked)) == 10 and set(asked[5:]) == set(row["cohort"])
    engine, told = losing(lambda kind, client, place: kind == "consistency" and len(told) < 25)
    with pytest.raises(SettingError, match="round 2 has no cohort: 5 of 5 clients"):
        run(settings(num_rounds=2), tmp_path / "none", engine=engine)
    assert len([kind for kind, _ in told if kind == "masked"]) == 5


def test_secrets_of_a_round_that_was_given_up_do_not_stay(tmp_path):
    engine, _ = losing(lambda kind, client, place: kind == "consistency")
    with pytest.raises(DivergedError):
        run(settings(), tmp_path, engine=engine)
    assert not list(tmp_path.rglob("*.state*"))


def test_what_a_vector_left_over_is_sealed_and_of_one_size(tmp_path):
    """Of another size it is none: `--trainable` may change between two runs of a number."""
    seen, run_number = set(), []

    class Watch(Residence):
        def __call__(self, settings):
            place = self.state_folder / "residuals"
            seen.update(path.suffix for path in place.rglob("client_*"))
            for client in range(5 if not seen else 0):
                key = SecureDevice(self.state_folder, client).state_key()
                other = {"delta": np.ones(7, dtype=np.float32)}
                ClientStates.of_run(place, run_number[0], key).save(client, 0, other)
            return super().__call__(settings)

    def carry_out(server, world, states) -> None:
        run_number.append(server.schema.run)
        app = make_client_app(Watch(world, states), SharedArray)
        make_server_app(server)(InProcessGrid(app, 5, RUN_ID), new_context(RUN_ID, 0))

    _, result = run(settings(), tmp_path, engine=Engine(SharedArray, carry_out))
    assert result.rows[0]["sum"]["survivors"] == 5 and result.rows[0]["quarantined"] == []
    assert seen == {".sealed"}


class Stopped(Exception):
    """Somebody pulled the plug."""


def test_a_run_goes_on_where_it_ended_and_ends_the_same_but_for_rounding(tmp_path):
    """Without AdamW, which turns the rounding of a gradient of zero into a whole step."""
    config = settings(num_clients=7, num_rounds=2, privacy_options=replace(SECURE, secure_bits=32))
    whole, cut, again = (world_of(config, optimizer="sgd") for _ in range(3))

    def stop(row):
        if row["round"] == 1:
            raise Stopped

    run_federated(config, whole, folder(tmp_path / "whole"))
    with pytest.raises(Stopped):
        run_federated(config, cut, folder(tmp_path / "cut"), on_round=stop)
    places = sorted((tmp_path / "cut").glob("clients/secure/*.key"))
    keys = [place.read_bytes() for place in places]
    resumed = replace(config, resume=True)
    result = run_federated(resumed, again, folder(tmp_path / "cut"))
    assert [row["round"] for row in result.rows] == [1, 2]
    np.testing.assert_allclose(vector_of(again), vector_of(whole), rtol=1e-4, atol=1e-5)
    assert keys == [place.read_bytes() for place in places]


@pytest.mark.parametrize("forgets", [False, True])
def test_a_run_that_was_killed_in_a_round_goes_on_with_other_clients(forgets, tmp_path):
    """Five vectors for the second model left; nobody makes another one for it, or is asked for
    one unless the server forgot them.
    """

    def dies(kind, client, place):
        if kind == "consistency" and len(told) > 25:
            raise KeyboardInterrupt

    config = settings(num_clients=12, num_rounds=2)
    engine, told = losing(dies)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, engine=engine)
    first = [client for kind, client in told if kind == "masked"][5:]
    if forgets:
        (tmp_path / "asked.jsonl").unlink()
    engine, told = losing(lambda kind, client, place: False)
    _, result = run(replace(config, resume=True), tmp_path, engine=engine)
    row = result.rows[1]
    assert row["changed"] and row["given_up"] == (["keys"] if forgets else [])
    reasons = {(found["client_id"], found["reason"]) for found in row["quarantined"]}
    assert reasons == ({(client, "model_again") for client in first} if forgets else set())
    assert not set(first) & {client for kind, client in told if kind == "masked"}


def test_a_line_that_was_being_written_stands_for_nobody(tmp_path):
    """Nobody is asked before their line is whole, and the next line stands apart from it."""
    config = settings(num_clients=12, num_rounds=3)

    def stop(row):
        if row["round"] == 2:
            raise Stopped

    engine, _ = losing(lambda kind, client, place: False)
    with pytest.raises(Stopped):
        run(config, tmp_path, engine=engine, on_round=stop)
    place = tmp_path / "asked.jsonl"
    whole = place.read_bytes()
    place.write_bytes(whole + whole.splitlines()[-1][:15])
    engine, _ = losing(lambda kind, client, place: False)
    _, result = run(replace(config, resume=True), tmp_path, engine=engine)
    assert [row["changed"] for row in result.rows] == [True] * 3
    lines = place.read_bytes()
    assert lines.startswith(whole) and lines.count(b"\n") == 3
    assert [json.loads(line)["round"] for line in lines.splitlines()] == [1, 2, 3]


@pytest.mark.parametrize(
    "line",
    [
        '{"round": 1, "coh\n',
        '{"round": 1, "cohort": [0, 1]}\n',
        '{"round": 1, "cohort": [0], "clients": "01"}\n',
        '{"round": 1, "cohort": [0], "clients": ["0"]}\n',
        "\xff\n",
    ],
)
def test_any_other_damage_to_who_was_asked_names_the_cure(line, tmp_path):
    AskedRecord(tmp_path).note(1, [0, 1], [0])
    with open(tmp_path / "asked.jsonl", "ab") as file:
        file.write(line.encode("latin-1"))
    with pytest.raises(FileError, match=r"asked\.jsonl: .*; put back a copy of the file, or begin"):
        AskedRecord(tmp_path).read()


def test_privacy_counts_vectors_that_came_to_nothing(tmp_path):
    """A sum that was opened and then lost, a cohort that was given up: the server saw both."""
    pytest.importorskip("dp_accounting", reason="pip install dp-accounting")
    noised = replace(SECURE, **NOISED)
    config = settings(num_clients=12, num_rounds=2, privacy_options=noised, server=FROZEN)

    def dies(row):
        raise Stopped

    engine, _ = losing(lambda kind, client, place: False)
    with pytest.raises(Stopped):
        run(config, tmp_path, engine=engine, on_round=dies)
    again, told = losing(lambda kind, client, place: kind == "consistency" and len(told) < 25)
    _, result = run(replace(config, resume=True), tmp_path, engine=again)
    asked = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    counts = Counter(client for entry in asked for client in entry["clients"])
    changed = sum(row["changed"] for row in result.rows)
    assert len(asked) > changed
    assert result.guarantee.num_rounds == max(counts.values())


def test_a_refusal_before_vectors_spends_the_client_and_no_cohort(tmp_path):
    rounds = SecureRounds(
        config=settings(),
        spec=FlatSpec((), (), ()),
        schema=UpdateSchema(sizes={"delta": 3}, fingerprint="", run=1),
        hidden=HiddenSum(settings(), {"delta": 3}, 8),
        settings="{}",
        carry=SharedArray,
        public_keys=sorted(Identity.generate().public for _ in range(5)),
    )
    task = Task(1, 0, np.zeros(3, np.float32), np.zeros(0, np.float32))
    outcome = Outcome(cohort=[0, 1, 2, 3, 4])
    refuse = lambda message, context: refusal(message, "model_again")  # noqa: E731
    app = ClientApp()
    app.query("sa_keys")(refuse)
    grid = InProcessGrid(app, 5, RUN_ID)
    assert rounds.collect(grid, list(grid.get_node_ids()), task, 0, outcome) is None
    assert rounds.spent == {0, 1, 2, 3, 4} and rounds.cohorts == []
    assert rounds.record.entries == []


@within(deadline=None)
@given(st.integers(5, 24), st.integers(0, 2**20), st.integers(0, 4))
def test_cohorts_are_apart_or_the_same(num_clients, seed, lost) -> None:
    earlier: list[frozenset[int]] = []
    spent: set[int] = set()
    for number in range(1, 8):
        found = apart_cohort(
            seed, number, num_clients, 5, attempt=0, spent=spent, earlier=earlier, least=2
        )
        if found:
            assert found == sorted(set(found)) and len(found) == 5 and not set(found) & spent
            cohort = frozenset(found)
            assert all(may_overlap(cohort, other, 2) for other in earlier if cohort & other)
            earlier.append(cohort)
            spent = cohort if number == lost else set()
        else:
            assert spent or num_clients == 6 or earlier


def test_without_spare_clients_there_is_one_cohort_for_ever():
    first = apart_cohort(1, 1, 6, 5, attempt=0, spent=(), earlier=(), least=2)
    for number in range(2, 6):
        draw = {"attempt": 0, "spent": (), "earlier": [frozenset(first)], "least": 2}
        assert apart_cohort(1, number, 6, 5, **draw) == first


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"clients_per_round": 4, "num_clients": 9}, "5 to 50 --clients-per-round, not 4"),
        ({"clients_per_round": 60, "num_clients": 90}, "5 to 50 --clients-per-round, not 60"),
        ({"server": {"aggregation_rule": "multi-krum"}}, "multi-krum must see every update"),
        ({"server": {"trimmed_replies": 1}}, "trimmed must see every update"),
        ({"server": {"aggregation_rule": "geometric-median"}}, "own update"),
        ({"privacy_options": {"aggregation": "secure", "secure_bits": 10}}, "more bits or fewer"),
        ({"privacy_options": {"aggregation": "secure", "secure_bits": 33}}, "more than 32"),
        ({"privacy_options": {"secure_bits": 24}}, "read by --aggregation secure only"),
        ({"privacy_options": {"dp_clip": 1.0}}, "belong together"),
        (
            {
                "algorithm": "scaffold",
                "privacy_options": {"dp_clip": 1.0, "dp_noise_multiplier": 1.0},
            },
            "scaffold sends more",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_the_run(changes, cause):
    with pytest.raises(SettingError, match=cause):
        options = changes.pop("privacy_options", None)
        if options is not None:
            changes["privacy_options"] = PrivacyOptions(**options)
        settings(**changes)


def test_the_policy_file_holds_what_a_client_asks_of_sums(tmp_path):
    path = tmp_path / "policy.json"
    asked = ClientPolicy(
        aggregations=("secure",), secure=SecurePolicy(least_cohort=8, bits=20, least_noise=0.5)
    )
    asked.save(path)
    assert ClientPolicy.load(path) == asked
    ClientPolicy().save(path)
    assert ClientPolicy.load(path) == ClientPolicy()
    assert not asked.allows(config_of()) and asked.allows(settings())


def test_a_policy_that_asks_for_more_ends_the_round(tmp_path):
    (tmp_path / "clients").mkdir()
    ClientPolicy(secure=SecurePolicy(least_cohort=8)).save(tmp_path / "clients" / "policy.json")
    with pytest.raises(SettingError, match="small_cohort"):
        run(settings(), tmp_path)


def test_a_client_whose_training_diverged_adds_nothing_and_looks_like_the_others(tmp_path):
    config, spoiled = settings(), 3
    world = world_of(config)
    train = world.training.train_epoch

    def epoch(model, dataset, optimizer, **more):
        stats = train(model, dataset, optimizer, **more)
        if set(dataset.rows) == set(world.partitions[spoiled]):
            with torch.no_grad():
                next(iter(model.parameters())).fill_(float("nan"))
        return stats

    world.training = replace(world.training, train_epoch=epoch)
    row = run_federated(config, world, folder(tmp_path)).rows[0]
    assert row["sum"]["survivors"] == 5 and row["quarantined"] == []
    others = sum(len(rows) for c, rows in enumerate(world.partitions) if c != spoiled)
    assert row["sum"]["num_samples"] == others
    assert np.isfinite(vector_of(world)).all()


def test_private_clients_with_too_few_pictures_are_refused_before_the_run(tmp_path):
    config = settings(privacy_options=PrivacyOptions())
    few = world_of(config, people=ToyPeople(num_rows=30, is_private=True))
    with pytest.raises(SettingError, match=r"hold fewer than 8 pictures .*--num-clients"):
        run_federated(config, few, folder(tmp_path))
    assert not (tmp_path / "metrics.jsonl").exists()
