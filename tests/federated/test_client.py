"""A worker: the shared local epoch, nothing left behind, and what each algorithm adds."""

from dataclasses import replace

import numpy as np
import torch
from toy import ToyNet, config_of, subset, world_of

from pchmr.federated import Training
from pchmr.federated.client import Worker
from pchmr.federated.client_state import ClientStates
from pchmr.federated.corrections import before_step, proximal
from pchmr.federated.rounds import client_seed
from pchmr.federated.task import Task
from pchmr.federated.vector import FlatSpec, FlatView
from pchmr.runs import state_sha256


def start_of(model, policy: str = "average") -> tuple[np.ndarray, np.ndarray]:
    spec = FlatSpec.of(model, policy)
    return FlatView(model, spec.parameters).read(), FlatView(model, spec.buffers).read()


def task_of(world, client_id: int, round_number: int = 1, **more) -> Task:
    parameters, buffers = start_of(ToyNet())
    more = {"parameters": parameters, "buffers": buffers} | more
    return Task(round=round_number, client_id=client_id, **more)


def test_one_client_trains_to_the_weights_of_one_centralized_epoch(tmp_path):
    """Bit for bit: the same function, order and fresh optimizer, on the same rows."""
    config = config_of(num_clients=1, clients_per_round=1)
    world = world_of(config)
    model = ToyNet()
    optimizer = world.training.new_optimizer(model)
    stats = world.training.train_epoch(
        model, world.train_set, optimizer, seed=client_seed(config.seed, 0, 0), epoch=0.0
    )
    trained = []

    def spy(client_model, *arguments, **settings):
        done = world.training.train_epoch(client_model, *arguments, **settings)
        trained.extend(p.detach().clone() for p in client_model.parameters())
        return done

    watched = replace(world, training=Training(world.training.new_optimizer, spy))
    update = Worker(watched, config, tmp_path).run(task_of(world, 0))
    for ours, centralized in zip(trained, model.parameters(), strict=True):
        assert torch.equal(ours, centralized)
    np.testing.assert_array_equal(start_of(world.model)[0], start_of(ToyNet())[0])
    parameters, buffers = start_of(model)
    np.testing.assert_array_equal(update.arrays["delta"], parameters - start_of(ToyNet())[0])
    np.testing.assert_array_equal(update.arrays["buffers"], buffers)
    assert update.num_samples == stats.num_samples == 120
    assert update.num_steps == 15
    assert update.loss_sum == stats.losses["mse"] * 120


def test_an_update_does_not_depend_on_who_came_before(tmp_path):
    config = config_of(local_epochs=2)
    fresh = Worker(world_of(config), config, tmp_path)
    used = Worker(world_of(config), config, tmp_path)
    used.run(task_of(used.world, 0))
    used.run(task_of(used.world, 4, round_number=2))
    a, b = (w.run(task_of(w.world, 2)) for w in (fresh, used))
    assert a.metrics == b.metrics
    for name in a.arrays:
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name])
    assert state_sha256(fresh.world.model.state_dict()) == state_sha256(
        used.world.model.state_dict()
    )


def test_other_weights_in_the_same_round_are_taken_up(tmp_path):
    config = config_of()
    worker = Worker(world_of(config), config, tmp_path)
    task = task_of(worker.world, 1)
    first = worker.run(task).arrays["delta"].copy()
    moved = replace(task, parameters=task.parameters + np.float32(0.1))
    assert np.abs(worker.run(moved).arrays["delta"] - first).max() > 1e-3
    np.testing.assert_array_equal(worker.run(task).arrays["delta"], first)


def test_the_task_is_left_as_it_was(tmp_path):
    config = config_of()
    worker = Worker(world_of(config), config, tmp_path)
    task = task_of(worker.world, 1)
    before = task.parameters.copy()
    for array in (task.parameters, task.buffers):
        array.flags.writeable = False
    worker.run(task)
    np.testing.assert_array_equal(task.parameters, before)


def test_proximal_term_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    change = proximal(model, mu=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with before_step(optimizer, change):
        for expected in (0.0, -0.5):  # gradient 1; then 1 + 0.5 * (0 - 1)
            model.weight.grad = torch.ones(1, 1)
            optimizer.step()
            assert model.weight.item() == expected
    assert proximal(model, mu=0.0) is None


def test_control_variates_are_kept_by_the_client_and_versioned(tmp_path):
    config = config_of(algorithm="scaffold")
    worker = Worker(world_of(config), config, tmp_path)
    size = worker.spec.num_parameters
    zero = np.zeros(size, np.float32)
    first = worker.run(task_of(worker.world, 2, control=zero)).arrays["control"].copy()
    second = worker.run(task_of(worker.world, 2, round_number=2, control=zero)).arrays["control"]
    assert np.abs(second - first).max() > 0
    again = Worker(world_of(config), config, tmp_path)
    redone = again.run(task_of(again.world, 2, round_number=2, control=zero)).arrays["control"]
    np.testing.assert_array_equal(redone, second)
    ClientStates(tmp_path).save(2, 1, {"control": np.ones(3, np.float32)})  # of another layout
    begun = again.run(task_of(again.world, 2, round_number=2, control=zero)).arrays["control"]
    np.testing.assert_array_equal(begun.shape, second.shape)


def test_fedbn_statistics_and_scales_stay_with_their_client(tmp_path):
    config = config_of(server={"batch_norm": "local"})
    worker = Worker(world_of(config), config, tmp_path)
    parameters, buffers = start_of(ToyNet(), "local")
    task = {"parameters": parameters, "buffers": buffers}
    update = worker.run(task_of(worker.world, 0, **task))
    assert set(update.arrays) == {"delta"}
    mine = worker.world.model.backbone[1].running_mean.clone()
    worker.run(task_of(worker.world, 1, **task))
    other = worker.world.model.backbone[1].running_mean.clone()
    assert not torch.equal(mine, other)
    kept = worker._states.load(0, 2)["kept"]
    names = [slot.name for slot in worker.spec.kept]
    slot = worker.spec.kept[names.index("backbone.1.running_mean")]
    np.testing.assert_array_equal(kept[slot.start : slot.stop], mine.numpy())


def test_frozen_statistics_neither_move_nor_travel(tmp_path):
    config = config_of(server={"batch_norm": "freeze"})
    worker = Worker(world_of(config), config, tmp_path)
    before = worker.world.model.backbone[1].running_var.clone()
    parameters, buffers = start_of(ToyNet(), "freeze")
    update = worker.run(task_of(worker.world, 0, parameters=parameters, buffers=buffers))
    assert set(update.arrays) == {"delta"}
    assert torch.equal(worker.world.model.backbone[1].running_var, before)


def test_a_worker_reads_only_its_clients_rows(tmp_path):
    config = config_of()
    world = world_of(config)
    seen: set[int] = set()
    train_set = world.train_set

    class Spy(type(train_set)):
        def batch(self, indices):
            seen.update(int(i) for i in indices)
            return super().batch(indices)

    world.train_set = Spy()
    Worker(world, config, tmp_path).run(task_of(world, 3))
    assert seen == set(world.partitions[3].tolist()) == set(subset(world, 3).rows.tolist())
