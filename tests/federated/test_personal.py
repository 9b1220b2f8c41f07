"""What clients keep of a network for themselves: plain loops beside, and what travels."""

import numpy as np
import pytest
import torch
from toy import ToyNet, again, config_of, folder, subset, world_of

from pchmr.config import OptimOptions, SettingError
from pchmr.federated import ALGORITHMS, run_federated
from pchmr.federated.client import layout_of
from pchmr.federated.client_state import ClientStates
from pchmr.federated.forgetting import CLIENTS
from pchmr.federated.personal import KEPT, OWN, show_own
from pchmr.federated.rounds import client_seed, cohort
from pchmr.federated.vector import FlatView
from pchmr.seeds import derive_seed

RATE = 0.05
PERSONAL = sorted(name for name in ALGORITHMS if ALGORITHMS[name].is_personal)
State = dict[str, torch.Tensor]


def settings(name: str, **changes):
    options = OptimOptions(learning_rate=RATE, batch_size=8, clip=100.0)
    server = {"ditto": {"mu": 0.3}, "apfl": {"own_share": 0.25}}.get(name)
    more = {"num_rounds": 4, "local_epochs": 2 if name == "fedrep" else 1} | changes
    return config_of(algorithm=name, server=server, optim_options=options, **more)


class Loop:
    """The same arithmetic with plain networks and SGD."""

    def __init__(self, config, world) -> None:
        self.config, self.world = config, world
        self.common: State = {n: p.detach().clone() for n, p in world.model.named_parameters()}
        self.start = dict(self.common)
        self.kept: dict[int, State] = {}

    def members(self, r: int) -> list[int]:
        c = self.config
        return cohort(c.seed, r, c.num_clients, c.clients_per_round)

    def descend(self, state: State, client: int, seed: int, rate: float, names=None, pull=None):
        """One local epoch on some weights, with a pull towards others."""
        net = ToyNet(norm=False)
        net.load_state_dict(state)
        data = subset(self.world, client)
        order = np.random.default_rng(seed).permutation(len(data))
        for begin in range(0, len(order), 8):
            batch = data.batch(order[begin : begin + 8])
            loss = (net(batch.betas) - batch.transl).square().mean()
            net.zero_grad()
            loss.backward()
            with torch.no_grad():
                for n, p in net.named_parameters():
                    if names is not None and n not in names:
                        continue
                    beside = 0.0 if pull is None else 0.3 * (p - pull[n])
                    p -= rate * (p.grad + beside)
        return {n: p.detach().clone() for n, p in net.named_parameters()}

    def average(self, found: list[tuple[int, State]], names) -> None:
        total = sum(n for n, _ in found)
        for name in names:
            mean = sum(state[name].double() * (n / total) for n, state in found)
            self.common[name] = mean.float()

    def run(self) -> None:
        epochs = self.config.local_epochs
        for r in range(1, self.config.num_rounds + 1):
            found = []
            for client in self.members(r):
                seeds = [
                    client_seed(self.config.seed, (r - 1) * epochs + i, client)
                    for i in range(epochs)
                ]
                found.append((len(subset(self.world, client)), self.visit(client, seeds)))
            self.average(found, self.shared)


class Parts(Loop):
    """FedPer: the head is the client's; FedRep: it trains first."""

    @property
    def shared(self) -> list[str]:
        return [n for n in self.common if n.startswith("backbone.")]

    def visit(self, client: int, seeds: list[int]) -> State:
        head = [n for n in self.common if n not in self.shared]
        own = self.kept.get(client, {n: self.start[n] for n in head})
        state = self.common | own
        for place, seed in enumerate(seeds):
            names = None
            if self.config.algorithm == "fedrep":
                names = self.shared if place == len(seeds) - 1 else head
            state = self.descend(state, client, seed, RATE, names)
        self.kept[client] = {n: state[n] for n in head}
        return state


class Wholes(Loop):
    """Ditto and APFL: FedAvg, and a network beside it."""

    @property
    def shared(self) -> list[str]:
        return [*self.common]

    def visit(self, client: int, seeds: list[int]) -> State:
        common = dict(self.common)
        local = self.descend(common, client, seeds[0], RATE)
        own = self.kept.get(client, common)
        seed = derive_seed(seeds[0], OWN)
        if self.config.algorithm == "ditto":
            self.kept[client] = self.descend(own, client, seed, RATE, pull=common)
        else:
            a = 0.25
            mixed = {n: a * own[n] + (1 - a) * local[n] for n in own}
            mixed = self.descend(mixed, client, seed, a * RATE)
            self.kept[client] = {n: (mixed[n] - (1 - a) * local[n]) / a for n in own}
        return local


def own_of(config, world, place, client: int) -> State:
    """A client's own network after a run."""
    kept = ClientStates(place.path / CLIENTS).load(client, config.num_rounds + 1)
    spec = layout_of(world.model, config)
    view = FlatView(world.model, spec.parameters)
    before = view.read()
    algorithm = ALGORITHMS[config.algorithm]
    show_own(world.model, spec, kept, algorithm.beside, config.server_options)
    found = {n: p.detach().clone() for n, p in world.model.named_parameters()}
    view.write(before)
    return found


class Scaled:
    """The toy's training at the rate of the settings: the package's own follows them too."""

    def __init__(self, world, config) -> None:
        rate = config.optim_options.learning_rate
        plain = world_of(config, optimizer="sgd", norm=False).training
        self.train_epoch = plain.train_epoch
        self.new_optimizer = lambda model: torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad], lr=rate
        )


@pytest.mark.parametrize("name", ["apfl", "ditto", "fedper", "fedrep"])
def test_agrees_with_a_plain_loop(name, tmp_path, monkeypatch):
    config = settings(name)
    world = world_of(config, optimizer="sgd", norm=False)
    world.training = None
    monkeypatch.setattr("pchmr.federated.client.people_training", Scaled)
    loop = (Parts if name in ("fedper", "fedrep") else Wholes)(config, world)
    loop.run()
    place = folder(tmp_path)
    result = run_federated(config, world, place)
    assert not any(row["quarantined"] or row["clipped"] for row in result.rows)
    for n in loop.shared:
        torch.testing.assert_close(result.state_dict[n], loop.common[n], atol=3e-6, rtol=0)
    for client, expected in loop.kept.items():
        found = own_of(config, world, place, client)
        if name == "apfl":
            expected = {n: 0.25 * expected[n] + 0.75 * loop.common[n] for n in expected}
        for n, tensor in expected.items():
            torch.testing.assert_close(found[n], tensor, atol=2e-5, rtol=0)
    differ = [own_of(config, world, place, c) for c in (*loop.kept,)[:2]]
    assert max((differ[0][n] - differ[1][n]).abs().max() for n in differ[0]) > 1e-3


@pytest.mark.parametrize("name", PERSONAL)
def test_what_is_kept_does_not_travel(name, tmp_path):
    config = settings(name, num_rounds=1)
    world = world_of(config)
    place = folder(tmp_path)
    result = run_federated(config, world, place)
    spec = layout_of(world.model, config)
    whole = sum(p.numel() for p in world.model.parameters())
    algorithm = ALGORITHMS[name]
    assert (spec.num_parameters < whole) == (algorithm.beside is None)
    assert spec.num_parameters + spec.num_kept == whole
    assert f"float32[{spec.num_parameters}]" in result.egress["leaves_client"]
    client = result.rows[0]["cohort"][0]
    kept = ClientStates(place.path / CLIENTS).load(client, 2)
    assert set(kept) == ({OWN} if algorithm.beside else {KEPT})


def test_a_client_that_never_took_part_shows_the_common_network(tmp_path):
    config = settings("ditto")
    world = world_of(config)
    spec = layout_of(world.model, config)
    view = FlatView(world.model, spec.parameters)
    before = view.read()
    show_own(world.model, spec, {}, ALGORITHMS["ditto"].beside, config.server_options)
    np.testing.assert_array_equal(view.read(), before)


def test_a_network_without_the_part_is_refused(tmp_path):
    config = settings("local-norm")
    with pytest.raises(SettingError, match="no part that clients could keep"):
        layout_of(ToyNet(norm=False), config)
    with pytest.raises(SettingError, match="--local-epochs"):
        again(settings("fedrep"), local_epochs=1)


def test_killed_runs_go_on_with_what_clients_kept(tmp_path):
    for name in ("fedper", "ditto"):
        config = settings(name)
        whole = folder(tmp_path / f"{name}-whole")
        run_federated(config, world_of(config), whole)
        place = folder(tmp_path / name)

        def stop(row):
            if row["round"] == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_federated(config, world_of(config), place, on_round=stop)
        run_federated(again(config, resume=True), world_of(config), place)
        ends = [ClientStates(p.path / CLIENTS) for p in (whole, place)]
        for client in range(config.num_clients):
            a, b = (states.load(client, config.num_rounds + 1) for states in ends)
            assert set(a) == set(b)
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
