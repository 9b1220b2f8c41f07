"""The client's policy: what no server can ask for, and that a refusal tells nothing."""

import os
from dataclasses import dataclass, replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
from toy import ToyNet, config_of, world_of

from pchmr.config import OptimOptions, ServerOptions, to_json
from pchmr.federated.client import schema_of
from pchmr.federated.flower.api import Message, SharedArray, new_context, set_identity
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.tasks import build_task
from pchmr.federated.ledger import Ledger
from pchmr.federated.policy import ClientPolicy, PolicyError
from pchmr.federated.task import Task
from pchmr.federated.vector import FlatSpec, FlatView
from pchmr.recipes.paper import FINETUNE_RATE
from pchmr.training import schedule

CONFIG = config_of(num_rounds=9)
COSINE = ServerOptions(round_schedule="cosine")


class Device:
    """A client app and the malicious server that writes to it."""

    def __init__(self, folder, *, sizes=(2, 7, 8, 60), private=False, policy=None) -> None:
        world = world_of(CONFIG)
        cuts = np.cumsum((0, *sizes))
        world.partitions = np.split(np.arange(cuts[-1]), cuts[1:-1])
        if private:
            object.__setattr__(world.train_set, "is_private", True)
        set_identity(1)
        self.app = make_client_app(Residence(world, folder, policy), SharedArray)

    def ask(
        self, client_id=3, number=1, config=CONFIG, settings=None, node=None, weights=None,
        run=77, group="1",
    ):  # fmt: skip
        model = ToyNet()
        spec = FlatSpec.of(model)
        parameters = FlatView(model, spec.parameters).read() if weights is None else weights
        task = Task(number, client_id, parameters, FlatView(model, spec.buffers).read())
        schema = schema_of(spec, config, run)
        content = build_task(schema, task, settings or to_json(config), SharedArray)
        message = Message(content, node or 2 + client_id, "train", group_id=group)
        reply = self.app(message, new_context(1, message.metadata.dst_node_id))
        return reply.error.reason if reply.has_error() else dict(reply.content["metrics"])


def with_options(**changes):
    return replace(CONFIG, optim_options=replace(CONFIG.optim_options, **changes))


@pytest.mark.parametrize(
    "config",
    [
        with_options(learning_rate=0.0),
        with_options(learning_rate=1e-9),
        replace(with_options(learning_rate=1e-6), server_options=COSINE),  # ends at 1e-8
        with_options(learning_rate=100.0),
        with_options(clip=1e-9),
        with_options(clip=1e9),
        with_options(weight_decay=1e9),
        replace(CONFIG, local_epochs=40),
        replace(CONFIG, num_rounds=1),  # round 2 is beyond it
    ],
)
def test_settings_out_of_bounds_are_refused_with_the_one_code(config, tmp_path):
    device = Device(tmp_path)
    assert device.ask(number=2, config=config) == "policy"
    assert isinstance(device.ask(number=3), dict)


@pytest.mark.parametrize("settings", ["[" * 100_000, '{"a":' * 30, "[NaN]", "x", '{"x": 1}' * 9000])
def test_settings_that_are_no_sane_json_are_refused(settings, tmp_path):
    assert Device(tmp_path).ask(settings=settings) == "policy"


@pytest.mark.parametrize("client_id", [-1, 4, 10**6])
def test_nobody_answers_for_clients_that_are_not_here(client_id, tmp_path):
    assert Device(tmp_path).ask(client_id, node=2) == "policy"


def test_a_node_answers_for_one_client_only(tmp_path):
    device = Device(tmp_path)
    assert isinstance(device.ask(3, node=9), dict)
    assert device.ask(2, node=9) == "policy"
    own = Device(tmp_path / "own", policy=ClientPolicy(client_ids=(2,)))
    assert own.ask(3) == "policy"
    assert isinstance(own.ask(2), dict)


def test_rounds_are_answered_once_and_rise_over_restarts_and_refusals(tmp_path):
    device = Device(tmp_path)
    assert device.ask(number=-5) == device.ask(number=0) == "policy"
    assert isinstance(device.ask(number=2), dict)
    assert device.ask(number=2) == device.ask(number=1) == "policy"
    again = Device(tmp_path)
    assert again.ask(number=2) == "policy"
    assert again.ask(number=3, config=with_options(learning_rate=0.0)) == "policy"
    assert again.ask(number=3) == "policy"  # a refusal uses its round up
    assert again.ask(number=4, run=78) == "policy"  # another run is the owner's affair
    assert isinstance(again.ask(number=4), dict)


def test_weights_that_overflow_are_refused_before_they_meet_data(tmp_path):
    weights = np.full(FlatSpec.of(ToyNet()).num_parameters, np.nan, np.float32)
    assert Device(tmp_path).ask(weights=weights) == "policy"


def test_no_loss_of_few_samples_leaves(tmp_path):
    device = Device(tmp_path)
    assert [device.ask(client)["loss_sum"] for client in (0, 1)] == [-1.0, -1.0]
    assert device.ask(2)["loss_sum"] > 0


def test_private_data_take_part_in_numbers_only(tmp_path):
    device = Device(tmp_path, private=True)
    assert device.ask(0) == device.ask(1) == "policy"
    assert isinstance(device.ask(2), dict)


@pytest.mark.parametrize("group", ["/home/someone/IMG_0001.jpg", "1" * 40, ""])
def test_free_text_in_a_task_is_not_repeated(group, tmp_path):
    assert Device(tmp_path).ask(group=group) == "task_schema"


def test_a_policy_file_is_read_and_its_owner_s_alone(tmp_path):
    path = tmp_path / "policy.json"
    ClientPolicy(algorithms=("fedprox",), client_ids=(3,)).save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ClientPolicy.load(path) == ClientPolicy(algorithms=("fedprox",), client_ids=(3,))
    assert Device(tmp_path).ask() == "policy"
    os.chmod(path, 0o644)
    with pytest.raises(PolicyError, match="chmod 600"):
        Device(tmp_path)


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"min_sample": 3}', '{"min_samples": "3"}', '{"min_samples": 0}',
             '{"min_learning_rate": NaN}', '{"losses": [1]}', "[" * 100_000],
)  # fmt: skip
def test_a_policy_that_is_none_is_told(text, tmp_path):
    path = tmp_path / "policy.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(PolicyError):
        ClientPolicy.load(path)


def test_simulated_devices_go_back_with_their_server(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.begin(1, 7, 3)
    assert not ledger.begin(1, 7, 3)
    ledger.roll_back(2)
    assert ledger.begin(1, 7, 3)


def test_defaults_allow_what_the_package_trains_with():
    policy = ClientPolicy()
    for optimizer, rate in (("adamw", 1e-4), ("adamw", FINETUNE_RATE), ("muon", 3e-3)):
        options = OptimOptions(optimizer=optimizer, learning_rate=rate)
        plain = replace(CONFIG, optim_options=options)
        for config in (plain, replace(plain, server_options=COSINE)):
            assert policy.allows(config)


@pytest.mark.parametrize("kind", get_args(get_type_hints(ServerOptions)["round_schedule"]))
def test_the_lowest_rate_is_that_of_the_schedule_s_last_step(kind):
    options = OptimOptions(learning_rate=1e-3)
    server = ServerOptions(round_schedule=kind)
    config = replace(CONFIG, optim_options=options, server_options=server)
    factor = schedule(kind, config.num_rounds)
    least = min(1e-3 * factor(epoch) for epoch in np.linspace(0, config.num_rounds, 1001))
    assert ClientPolicy(min_learning_rate=0.999 * least).allows(config)
    assert not ClientPolicy(min_learning_rate=1.001 * least).allows(config)


@dataclass(frozen=True, kw_only=True)
class Masked:
    """A policy of its own for one kind of task."""

    least_clients: int = 3


@dataclass(frozen=True, kw_only=True)
class Wider(ClientPolicy):
    """What a new kind of task adds: one line."""

    masked: Masked = Masked()


def test_a_policy_may_hold_another(tmp_path):
    path = tmp_path / "policy.json"
    wider = Wider(min_samples=4, masked=Masked(least_clients=5))
    wider.save(path)
    assert Wider.load(path) == wider
    for entry in ('{"least": 1}', "3", '{"least_clients": "3"}'):
        path.write_text(f'{{"masked": {entry}}}')
        with pytest.raises(PolicyError, match="masked"):
            Wider.load(path)
