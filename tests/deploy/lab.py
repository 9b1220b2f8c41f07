"""A federation of real processes on loopback, by the command line; and the same in process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pchmr.body import BodyModel
from pchmr.config import FederateConfig, from_json
from pchmr.data.sample import Sample
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.deploy import processes
from pchmr.deploy.federation import Federation
from pchmr.deploy.people import device_world
from pchmr.deploy.server_app import gate_for
from pchmr.federated import World, run_federated
from pchmr.federated.policy import ClientPolicy
from pchmr.runs import RunFolder, state_sha256

ROOT = Path(__file__).resolve().parents[2]
IMAGE_SIZE, ROWS = 64, 8
MARKER = "IMG-q7Zx2wVb9KpL4tYs8RmD1cHf6"
SECONDS = 1500


def environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), str(Path(__file__).parent / "exact")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


@dataclass
class Lab:
    """A folder with a federation and the people of its devices."""

    path: Path
    body: BodyModel
    port: int = field(default_factory=processes.free_port)

    @property
    def fed(self) -> Path:
        return self.path / "fed"

    @property
    def federation(self) -> Federation:
        return Federation.open(self.fed)

    def people(self, number: int) -> Path:
        return self.path / f"{MARKER}-{number}"

    def device(self, number: int) -> Path:
        return self.people(number) / "federation"

    def deploy(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pchmr.cli", "deploy", *map(str, words)]
        return subprocess.run(
            command, cwd=self.path, env=environment(), text=True, timeout=SECONDS,
            capture_output=True,
        )  # fmt: skip

    def begin(self, *words: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "pchmr.cli", "deploy", *map(str, words)]
        return subprocess.Popen(
            command, cwd=self.path, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def ok(self, *words: object) -> str:
        done = self.deploy(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def render(self, number: int) -> None:
        recipe = SyntheticRecipe(
            domain="B", split="train", num_samples=ROWS, image_size=IMAGE_SIZE, seed=number
        )
        SyntheticPeople.write(self.people(number) / "train", recipe, self.body, lambda *_: None)

    def join(self, number: int, port: int) -> None:
        """Invites a device and lets it join, through a relay's port."""
        self.ok("invite", f"d{number}", "--folder", self.fed)
        invite = self.fed / f"d{number}.invite"
        told = json.loads(invite.read_text())
        invite.write_text(json.dumps(told | {"address": f"localhost:{port}"}))
        self.ok("join", invite, "--data", self.people(number))

    def allow_plain(self, number: int) -> None:
        """Its owner lets a device answer plain tasks again, after a roster was pinned."""
        place = self.device(number) / "policy.json"
        policy = ClientPolicy.load(place)
        assert policy.aggregations == ("secure",)
        replace(policy, aggregations=("plain", "secure")).save(place)

    def run_folder(self) -> RunFolder:
        return RunFolder(self.federation.run_folders[-1])

    def summary(self) -> dict:
        found = self.run_folder().read_json("summary.json")
        assert found is not None
        return found

    def kill(self, folder: Path) -> None:
        """kill -9 of all that works for a folder."""
        mark = self.federation.authority
        while numbers := processes.marked(mark, folder):
            for number in numbers:
                os.kill(number, signal.SIGKILL)

    def in_process(self, devices: list[int]) -> tuple[str, list[dict]]:
        """Hash and rows of the last run's config with the same people in this process."""
        text = (self.run_folder().path / "config.json").read_text()
        config = from_json(FederateConfig, text)
        worlds = [device_world(config, self.people(n), (0,)) for n in devices]
        joined = Joined([world.train_set for world in worlds])
        parts = np.split(np.arange(len(joined)), joined.ends[:-1])
        world = World(worlds[0].model, worlds[0].body, joined, parts)  # type: ignore[arg-type]
        folder = self.path / f"in-process-{self.run_folder().path.name}"
        shutil.rmtree(folder, ignore_errors=True)
        run = RunFolder(folder)
        most = max(device.most_samples for device in self.federation.devices)
        result = run_federated(config, world, run, gate=gate_for(config, world, most))
        return state_sha256(world.model.state_dict()), result.rows


class Joined:
    """Several data sets, one after the other."""

    is_private, origin = False, None

    def __init__(self, sets: list) -> None:
        self.sets, self.image_size = sets, sets[0].image_size
        self.ends = np.cumsum([len(people) for people in sets])
        self.content_hash, self.columns = "joined", {}

    def __len__(self) -> int:
        return int(self.ends[-1])

    def batch(self, indices) -> Sample:
        rows = np.asarray(indices)
        place = int(np.searchsorted(self.ends, rows[0], side="right"))
        people = self.sets[place]
        return people.batch(rows - (self.ends[place] - len(people)))


def until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)
