"""The state of clients' optimizers: averaged, kept, forgotten; against a loop without Flower."""

import math

import numpy as np
import pytest
import torch
from toy import ToyNet, ToyPeople, again, config_of, folder, subset, world_of

from pchmr.config import OptimOptions, PrivacyOptions, SettingError
from pchmr.federated import Training, run_federated
from pchmr.federated.client import Worker, schema_of
from pchmr.federated.moments import COUNT, FIRST, SECOND, MomentSpec, bounded_squares
from pchmr.federated.rounds import client_seed, cohort
from pchmr.federated.task import Task
from pchmr.federated.vector import FlatSpec, FlatView
from pchmr.muon import Muon

KINDS = {
    "adamw": lambda weights, rate: torch.optim.AdamW(weights, lr=rate),
    "muon": lambda weights, rate: Muon(weights, rate),
}


def settings(kind: str, state: str, clip: float = 100.0, **changes):
    options = OptimOptions(optimizer=kind, learning_rate=3e-3, batch_size=8, clip=clip)
    return config_of(server={"client_state": state}, optim_options=options, **changes)


def world_with(config, kind: str):
    world, rate = world_of(config, norm=False), config.optim_options.learning_rate
    make = KINDS[kind]

    def fresh(model):
        return make([p for p in model.parameters() if p.requires_grad], rate)

    world.training = Training(fresh, world.training.train_epoch)
    return world


def plain_loop(config, kind: str, state: str) -> dict[str, torch.Tensor]:
    """Rounds of local epochs and weighted means, tensor by tensor: no vectors, no messages."""
    world = world_with(config, kind)
    names = [name for name, _ in world.model.named_parameters()]
    start = {n: p.detach().clone() for n, p in world.model.named_parameters()}
    shared: dict[str, dict[str, torch.Tensor]] = {}
    own: dict[int, dict[str, dict[str, torch.Tensor]]] = {}
    for number in range(1, config.num_rounds + 1):
        found = []
        members = cohort(config.seed, number, config.num_clients, config.clients_per_round)
        for client in members:
            model = ToyNet(norm=False)
            model.load_state_dict(start)
            optimizer = world.training.new_optimizer(model)
            before = shared if state == "average" else own.get(client, {})
            weights = dict(model.named_parameters())
            for name, known in before.items() if state != "reset" else ():
                optimizer.state[weights[name]] = {k: v.clone() for k, v in known.items()}
            seed = client_seed(config.seed, number - 1, client)
            data = subset(world, client)
            world.training.train_epoch(model, data, optimizer, seed=seed, epoch=0.0)
            after = {
                n: {k: v.clone() for k, v in optimizer.state[weights[n]].items()} for n in names
            }
            own[client] = after
            found.append((len(data), {n: weights[n].detach() for n in names}, after))
        total = sum(count for count, _, _ in found)

        def mean(values, total=total, found=found):
            pairs = zip(found, values, strict=True)
            return sum(value.double() * (count / total) for (count, _, _), value in pairs).float()

        start = {n: mean([ends[n] for _, ends, _ in found]) for n in names}
        shared = {
            n: {k: mean([state_[n][k] for _, _, state_ in found]) for k in found[0][2][n]}
            for n in names
        }
    return start


@pytest.mark.parametrize("state", ["average", "reset", "keep"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_agrees_with_a_plain_loop(kind, state, tmp_path):
    config = settings(kind, state, num_rounds=4)
    expected = plain_loop(config, kind, state)
    result = run_federated(config, world_with(config, kind), folder(tmp_path))
    assert not any(row["quarantined"] or row["clipped"] for row in result.rows)
    for name, tensor in expected.items():
        torch.testing.assert_close(result.state_dict[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_three_states_differ(kind):
    ends = [plain_loop(settings(kind, s, num_rounds=4), kind, s) for s in ("average", "reset")]
    ends.append(plain_loop(settings(kind, "keep", num_rounds=4), kind, "keep"))
    flat = [torch.cat([t.reshape(-1) for t in end.values()]) for end in ends]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (flat[a] - flat[b]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_one_client_with_averaged_state_is_centralized_training(kind, tmp_path):
    """Whoever holds all data goes on as if rounds were epochs of one run."""
    config = settings(kind, "average", num_clients=1, clients_per_round=1)
    result = run_federated(config, world_with(config, kind), folder(tmp_path))
    world = world_with(config, kind)
    optimizer = world.training.new_optimizer(world.model)
    for epoch in range(config.num_rounds):
        seed = client_seed(config.seed, epoch, 0)
        world.training.train_epoch(
            world.model, world.train_set, optimizer, seed=seed, epoch=float(epoch)
        )
    for name, tensor in world.model.state_dict().items():
        torch.testing.assert_close(result.state_dict[name], tensor, atol=5e-6, rtol=0)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_travels_is_counted(kind, tmp_path):
    runs = {}
    for state in ("reset", "keep", "average"):
        config = settings(kind, state)
        runs[state] = run_federated(config, world_with(config, kind), folder(tmp_path / state))
    model = ToyNet(norm=False)
    config = settings(kind, "average")
    sizes = MomentSpec.of(FlatSpec.of(model), config).sizes
    assert runs["keep"].bytes_up == runs["reset"].bytes_up
    messages = config.num_rounds * config.clients_per_round
    beside = runs["average"].bytes_up - runs["reset"].bytes_up
    assert 0 <= beside - messages * 4 * sum(sizes.values()) < messages * 600  # headers
    assert "moments" in runs["average"].egress["leaves_client"]
    assert "moments" not in runs["keep"].egress["leaves_client"]
    whole = sum(p.numel() for p in model.parameters())
    assert sizes[FIRST] == whole
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert sizes[SECOND] == (whole - matrices if kind == "muon" else whole)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_run_that_stopped_goes_on_with_its_moments(kind, tmp_path):
    for state in ("average", "keep"):
        config = settings(kind, state, num_rounds=4)
        whole = run_federated(config, world_with(config, kind), folder(tmp_path / f"{state}-whole"))
        place = folder(tmp_path / state)

        def stop(row):
            if row["round"] == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_federated(config, world_with(config, kind), place, on_round=stop)
        resumed = again(config, resume=True)
        end = run_federated(resumed, world_with(config, kind), place)
        for name, tensor in whole.state_dict.items():
            assert torch.equal(end.state_dict[name], tensor)


@pytest.mark.whole
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_sums_under_masks_average_the_same_state(kind, tmp_path):
    ends = {}
    for aggregation in ("plain", "secure"):
        config = settings(
            kind,
            "average",
            clip=1.0,
            clients_per_round=6,
            privacy_options=PrivacyOptions(aggregation=aggregation),
        )
        world, place = world_with(config, kind), folder(tmp_path / aggregation)
        result = run_federated(config, world, place)
        assert all(row["changed"] for row in result.rows)
        ends[aggregation] = torch.cat([t.reshape(-1) for t in result.state_dict.values()])
    apart = (ends["plain"] - ends["secure"]).abs().max()
    moved = ends["plain"] - torch.cat([p.reshape(-1) for p in ToyNet(norm=False).parameters()])
    assert apart < 0.04 * moved.abs().max()  # Muon turns rounding of small momenta up


@pytest.mark.whole
def test_masked_moments_are_counted_and_no_part_of_a_noised_update(tmp_path):
    config = settings("adamw", "average", clients_per_round=5)
    secure = again(config, privacy_options=PrivacyOptions(aggregation="secure"))
    plain = again(secure, server_options=again(config.server_options, client_state="reset"))
    told = [
        run_federated(c, world_with(c, "adamw"), folder(tmp_path / str(i)))
        for i, c in enumerate((plain, secure))
    ]
    assert told[1].bytes_up > 2.5 * told[0].bytes_up - 30_000
    assert "moments" in told[1].egress["leaves_client"]
    noised = PrivacyOptions(dp_clip=1.0, dp_noise_multiplier=1.0)
    with pytest.raises(SettingError, match="--client-state average"):
        again(config, privacy_options=noised)
    again(settings("adamw", "keep"), privacy_options=noised)


def test_second_moments_never_turn_negative_or_too_small():
    config = settings("muon", "average")
    moments = MomentSpec.of(FlatSpec.of(ToyNet(norm=False)), config)
    vectors = moments.zeros()
    vectors[FIRST][...] = 0.5
    vectors[SECOND][...] = -1e-9
    bounded_squares(moments, vectors, 1e6)
    np.testing.assert_array_equal(vectors[SECOND], np.float32(0.25))
    vectors[SECOND][...] = 2.5e-2  # after one step of AdamW: 0.001 g^2 where 0.1 g is 0.5
    bounded_squares(moments, vectors, 1.0)
    np.testing.assert_allclose(vectors[SECOND], 2.5e-2, rtol=1e-5)


def admitted(change):
    """Reasons for which a reply whose moments were changed is set aside."""
    config = settings("adamw", "average", num_rounds=1)

    class Tampering(Worker):
        def run(self, task):
            update = super().run(task)
            if task.client_id == target:
                change(update.arrays)
            return update

    target = cohort(config.seed, 1, config.num_clients, config.clients_per_round)[0]
    return config, Tampering


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: np.negative(arrays[SECOND], out=arrays[SECOND]),
        lambda arrays: arrays[FIRST].fill(1e6),
        lambda arrays: arrays[SECOND].fill(1e9),
    ],
)
def test_moments_that_no_training_makes_are_set_aside(change, tmp_path, monkeypatch):
    config, worker = admitted(change)
    monkeypatch.setattr("pchmr.federated.flower.residence.Worker", worker)
    result = run_federated(config, world_with(config, "adamw"), folder(tmp_path))
    assert [found["reason"] for found in result.rows[0]["quarantined"]] == ["state"]


def test_an_optimizer_without_moments_is_refused(tmp_path):
    config = settings("adamw", "keep")
    world = world_of(config, optimizer="sgd", norm=False)
    spec = FlatSpec.of(world.model)
    task = Task(1, 0, FlatView(world.model, spec.parameters).read(), np.empty(0, np.float32))
    with pytest.raises(SettingError, match="keeps no moments"):
        Worker(world, config, tmp_path).run(task)


def test_a_task_carries_the_count_of_steps(tmp_path):
    config = settings("adamw", "average")
    world = world_with(config, "adamw")
    spec = FlatSpec.of(world.model)
    zeros = MomentSpec.of(spec, config).zeros()
    parameters = FlatView(world.model, spec.parameters).read()
    task = Task(1, 0, parameters, np.empty(0, np.float32), moments=zeros)
    update = Worker(world, config, tmp_path).run(task)
    schema_of(spec, config, 1).check(update)
    assert COUNT not in update.arrays and update.arrays[SECOND].min() >= 0
    steps = math.ceil(len(world.partitions[0]) / 8)
    assert update.num_steps == steps
    assert ToyPeople().num_rows == len(world.train_set)
