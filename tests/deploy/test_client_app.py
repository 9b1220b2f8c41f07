"""What a device takes down of the runs that its people's pictures went into."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pchmr.annotate.consent import FEDERATED, read_consent, record
from pchmr.config import FederateConfig
from pchmr.deploy.client_app import DeviceWorker
from pchmr.deploy.device import ABOUT, AboutDevice, DeviceFolder
from pchmr.deploy.folders import write_json
from pchmr.federated.policy import ClientPolicy, Errand, Guard
from pchmr.federated.task import Task
from pchmr.federated.update import Rejected, Update

RATE = {"optim_options": replace(FederateConfig().optim_options, learning_rate=100.0)}


@dataclass
class Trained:
    """A worker behind a guard, whose pictures are of people who stood before a camera."""

    config: FederateConfig
    is_private: bool = True
    world: Any = field(init=False)

    def __post_init__(self) -> None:
        self.world = SimpleNamespace(train_set=SimpleNamespace(is_private=self.is_private))

    def answer(self, task: Task, guard: Guard, *, run: int, node_id: int) -> Update:
        errand = Errand(run, task.round, task.client_id, node_id, "layout")
        guard.begin(errand, self.config, lambda client: 20, self.is_private)
        return Update({}, 20, 1, 1.0)


@dataclass
class Device:
    """A device that has joined, and its server's tasks."""

    path: Path
    is_private: bool = True
    round: int = 0

    def __post_init__(self) -> None:
        self.data, place = self.path / "people", self.path / "people" / "federation"
        place.mkdir(parents=True, mode=0o700)
        self.data.chmod(0o700)
        about = AboutDevice(
            address="localhost:1", authority="ab" * 32, pseudonym="d", data=str(self.data),
            clients=(0,),
        )  # fmt: skip
        write_json(place / ABOUT, about.__dict__)
        self.folder = DeviceFolder(place)
        self.guard = Guard.of(place, ClientPolicy(client_ids=(0,), max_runs=20))

    def ask(self, name: str, run: int = 7, **changes: Any) -> Update:
        config = replace(FederateConfig(num_rounds=99), output=Path("runs") / name, **changes)
        worker = DeviceWorker(self.folder, config)
        worker._made, self.round = Trained(config, self.is_private), self.round + 1
        nothing = np.empty(0, dtype=np.float32)
        return worker.answer(Task(self.round, 0, nothing, nothing), self.guard, run=run, node_id=2)

    @property
    def models(self) -> tuple[str, ...]:
        known = read_consent(self.data)
        assert known is not None
        return known.federated_models


@pytest.fixture
def device(tmp_path: Path) -> Device:
    made = Device(tmp_path)
    record(made.data, who="A. Owner", purpose=FEDERATED, keep_days=30.0)
    return made


def test_a_refused_task_leaves_no_word_in_the_consent_record(device: Device) -> None:
    before = {path: path.read_bytes() for path in device.data.glob("*.json")}
    for number in range(3):
        with pytest.raises(Rejected, match="policy"):
            device.ask(f"never-trained-{number}", **RATE)
    assert {path: path.read_bytes() for path in device.data.glob("*.json")} == before
    assert device.models == () and device.folder.answered_runs == []


def test_a_run_is_taken_down_once_whatever_it_is_called(device: Device) -> None:
    for name in ("run-001", "another", "a third\n"):
        device.ask(name)
    device.ask("run-002", run=8)
    assert device.models == tuple(
        f"run-00{number} (run {run}) of federation {'ab' * 8}" for number, run in ((1, 7), (2, 8))
    )
    assert device.folder.answered_runs == ["the model of run-001 (7)", "the model of run-002 (8)"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("run_1.b-C", "run_1.b-C"),
        ("\x1b[2Jgone\n\u202e", "__2Jgone__"),
        ("m" * 3000, "m" * 64),
        ("\u0440un", "_un"),  # Cyrillic
        ("", "runs"),
    ],
)
def test_a_server_s_name_is_written_in_plain_signs(device: Device, name: str, kept: str) -> None:
    device.ask(name)
    assert device.models == (f"{kept} (run 7) of federation {'ab' * 8}",)


def test_pictures_that_nobody_stood_for_have_no_record(tmp_path: Path) -> None:
    device = Device(tmp_path, is_private=False)
    device.ask("run-001")
    assert read_consent(device.data) is None
    assert device.folder.answered_runs == ["the model of run-001 (7)"]


def test_without_consent_nothing_is_trained(tmp_path: Path) -> None:
    device = Device(tmp_path)
    with pytest.raises(Rejected, match="policy"):
        device.ask("run-001")
    assert device.folder.answered_runs == [] and device.guard.ledger.is_empty


def test_a_run_without_a_name_is_said_to_have_none(device: Device) -> None:
    assert device.folder.took_part(1, "") == device.folder.took_part(1, "late") == "unnamed"
