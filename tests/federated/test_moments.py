"""The state of clients' optimizers: averaged, kept, forgotten; against a loop without Flower."""

import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from toy import ToyNet, ToyPeople, again, config_of, folder, subset, world_of

from pchmr.config import OptimOptions, PrivacyOptions, SettingError
from pchmr.federated import Training, run_federated
from pchmr.federated.client import Worker, schema_of
from pchmr.federated.moments import (
    BETAS,
    COUNT,
    FIRST,
    LARGEST_RATIO,
    SECOND,
    MomentSpec,
    bounded_squares,
    raised_squares,
)
from pchmr.federated.rounds import client_seed, cohort
from pchmr.federated.task import Task
from pchmr.federated.trimmed import TrimmedSum
from pchmr.federated.vector import FlatSpec, FlatView
from pchmr.muon import Muon
from pchmr.training import new_optimizer

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


def layout(kind: str) -> MomentSpec:
    return MomentSpec.of(FlatSpec.of(ToyNet(norm=False)), settings(kind, "average"))


def after(gradients) -> tuple[np.ndarray, np.ndarray]:
    """Moments of torch's AdamW after these gradients, each (weights,)."""
    weight = torch.nn.Parameter(torch.zeros(gradients.shape[1]))
    optimizer = torch.optim.AdamW([weight], lr=1e-3)
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
    state = optimizer.state[weight]
    return state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()


def with_moments(first: np.ndarray, second: np.ndarray) -> tuple[MomentSpec, dict]:
    spec = layout("adamw")
    vectors = spec.zeros()
    vectors[FIRST][: len(first)], vectors[SECOND][: len(second)] = first, second
    return spec, vectors


def test_both_optimizers_have_the_decays_that_the_bound_is_made_of():
    for kind in sorted(KINDS):
        optimizer = new_optimizer(ToyNet(), OptimOptions(optimizer=kind))
        assert tuple(optimizer.defaults["betas"]) == BETAS
    assert pytest.approx(52.857, abs=1e-3) == LARGEST_RATIO


@pytest.mark.parametrize("scale", [1e-20, 1e-9, 1e-3, 1.0, 1e4])
def test_gradients_lead_to_reachable_moments_and_to_none_beyond(scale):
    rng = np.random.default_rng(3)
    kinds = [rng.normal(size=(400, 20)), np.ones((400, 20)), np.eye(400, 20)[::-1]]
    kinds += [rng.standard_cauchy(size=(400, 20)), rng.random((400, 20)) < 0.02]
    a, b = BETAS
    worst = np.tile((a / b) ** np.arange(400.0)[::-1, None], 20)  # where the inequality is equal
    for gradients in (*kinds, worst):
        first, second = after((scale * gradients).astype(np.float32))
        spec, vectors = with_moments(first, second)
        assert spec.is_reachable(vectors)
        lifted = vectors[SECOND].copy()
        raised_squares(spec, vectors)
        if scale > 1e-15:  # squares of smaller ones are not what float32 holds
            np.testing.assert_array_equal(vectors[SECOND], lifted)
    if scale > 1e-9:
        spec, vectors = with_moments(1.003 * first, second)
        assert not spec.is_reachable(vectors)


def test_means_and_trimmed_means_of_reachable_moments_are_reachable():
    rng = np.random.default_rng(4)
    for trim in (0, 1, 2):
        first = rng.standard_cauchy(size=(7, 300)).astype(np.float32)
        second = np.square(first) / np.float32(LARGEST_RATIO)
        means = []
        for rows in (first, second):
            if trim:
                total = TrimmedSum(300, trim)
                total.clear()
                for row in rows:
                    total.add(row, 1.0)
                means.append(total.mean(slice(None), 7.0))
            else:
                means.append(rows.mean(axis=0))
        spec, vectors = with_moments(*means)
        assert spec.is_reachable(vectors)


def test_a_mean_at_the_border_is_lifted_so_that_honest_clients_are_let_in():
    """Where weights see no gradient, they send back what the server has."""
    spec, vectors = with_moments(np.float32([0.5, 1e-12]), np.float32([0.25 / 52.95, 0]))
    assert spec.is_reachable(vectors)
    raised_squares(spec, vectors)
    vectors[FIRST] *= np.float32(1 + 1e-6)
    assert spec.is_reachable(vectors)


def test_what_the_server_hands_out_leaves_clients_room_for_rounding(tmp_path, monkeypatch):
    """Even if every client goes to the border."""

    class AtTheBorder(Worker):
        def run(self, task):
            update = super().run(task)
            least = np.square(update.arrays[FIRST]) / np.float32(52.95)
            update.arrays[SECOND][...] = least
            return update

    monkeypatch.setattr("pchmr.federated.flower.residence.Worker", AtTheBorder)
    config = settings("adamw", "average", clients_per_round=1, num_rounds=1)
    result = run_federated(config, world_with(config, "adamw"), folder(tmp_path))
    assert not result.rows[0]["quarantined"]
    (path,) = (tmp_path / "checkpoints").glob("*.safetensors")
    found = {name.removeprefix("clients."): vector for name, vector in load_file(path).items()}
    found[FIRST] = found[FIRST] * np.float32(1.0004)
    assert found[FIRST].any() and layout("adamw").is_reachable(found)


def test_muon_s_momentum_is_held_against_nothing():
    spec = layout("muon")
    vectors = spec.zeros()
    moved = {name: np.zeros(len(v), bool) for name, v in vectors.items()}
    for first, _ in spec.pairs({**vectors, FIRST: moved[FIRST]}):
        first[...] = True
    vectors[FIRST][~moved[FIRST]] = 1.0
    assert spec.is_reachable(vectors)
    vectors[FIRST][moved[FIRST]] = 1e-3
    assert not spec.is_reachable(vectors)


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


def lean_on_small_squares(arrays):
    """A first moment of ordinary length, on the entries whose second one is smallest."""
    places = np.argsort(arrays[SECOND], kind="stable")[:20]
    length = np.linalg.norm(arrays[FIRST])
    arrays[FIRST].fill(0)
    arrays[FIRST][places] = length / math.sqrt(20)


@pytest.mark.parametrize(
    "change",
    [
        lean_on_small_squares,
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
