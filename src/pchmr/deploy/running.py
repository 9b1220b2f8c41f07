"""`pchmr deploy run`: submits the signed bundle, shows the rounds, and says how it really ended.

Flower's own command ends with 0 whatever becomes of a run, so the state is asked of the server's
record, and a run counts as finished when its summary is there.
"""

import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pchmr.config import DeployConfig, FederateConfig, SettingError, require
from pchmr.deploy import processes
from pchmr.deploy.bundle import read_bundle
from pchmr.deploy.certificates import CA_CERTIFICATE
from pchmr.deploy.federation import RUNS, EnrolledDevice, Federation, find_federation
from pchmr.deploy.operator import near_address, settings_of
from pchmr.deploy.status import round_line
from pchmr.federated.flower.control import COMPLETED, Control, RunState
from pchmr.progress import say
from pchmr.runs import SUMMARY, RunFolder

POLL_SECONDS = 1.0
JOB = "job.json"
SETTINGS = ("seed", "num_rounds", "local_epochs", "algorithm", "device", "image_size")
GROUPS = ("model_options", "optim_options", "server_options", "privacy_options")


def run(config: DeployConfig) -> None:
    """Starts a run, or goes on with the last one, and shows its rounds."""
    federation = find_federation(config.name or config.folder)
    require(
        processes.is_running(federation.authority, federation.path, federation.live),
        f"the server is not up: `pchmr deploy up {federation.path}`",
    )
    folder = _folder(config, federation)
    bundle = read_bundle(federation.path)
    with connected(federation) as control:
        _require_none_runs(federation, control)
        told: dict[str, str | bool] = {"run": folder.path.name, "resume": config.resume}
        run_id = control.start(bundle, told)
        folder.write_json(JOB, {"flower_run": str(run_id)})
        say(f"run: {folder.path}")
        if config.wait:
            _watch(folder, control, run_id)


def connected(federation: Federation) -> Control:
    """The operator's connection to a running server."""
    return Control(near_address(federation), federation.path / CA_CERTIFICATE, federation.token)


def _folder(config: DeployConfig, federation: Federation) -> RunFolder:
    """The folder of the run, with its config."""
    known = federation.run_folders
    if config.resume:
        require(bool(known), f"--resume: {federation.path} has no run yet, leave it out")
        return RunFolder(known[-1])
    devices = federation.devices
    settings = with_changes(federation.settings, config)
    path = federation.path / RUNS / f"run-{len(known) + 1:03d}"
    return RunFolder.create(path, for_devices(settings, devices, path.name))


def with_changes(settings: FederateConfig, config: DeployConfig) -> FederateConfig:
    """The federation's settings, and what this command line says otherwise."""
    said = settings_of(config)
    plain = settings_of(DeployConfig(task="run"))
    changes: dict[str, Any] = {}
    for name in (*SETTINGS, *GROUPS):
        if name == "image_size":
            if config.image_size is not None:
                data = replace(settings.data_options, image_size=config.image_size)
                changes["data_options"] = data
        elif name in GROUPS:
            changes[name] = _merged(*(getattr(c, name) for c in (settings, said, plain)))
        elif getattr(said, name) != getattr(plain, name):
            changes[name] = getattr(said, name)
    if config.clients_per_round is not None:
        changes["clients_per_round"] = config.clients_per_round
        changes["num_clients"] = max(config.clients_per_round, settings.num_clients)
    return replace(settings, **changes)


def _merged(known: Any, said: Any, plain: Any) -> Any:
    """A group of settings in which whatever was said stands in place of what was known."""
    assert is_dataclass(known) and not isinstance(known, type)
    names = [entry.name for entry in fields(known)]
    changed = {n: getattr(said, n) for n in names if getattr(said, n) != getattr(plain, n)}
    return replace(known, **changed)


def for_devices(
    settings: FederateConfig, devices: list[EnrolledDevice], name: str
) -> FederateConfig:
    """The config of a run over the devices that are there.

    Raises:
        SettingError: There are none, or too few.
    """
    there = sum(len(device.clients) for device in devices if not device.has_left)
    total = sum(len(device.clients) for device in devices)
    require(there > 0, "no device has joined: `pchmr deploy invite NAME` makes an invite for one")
    size = min(settings.clients_per_round, there)
    if settings.privacy_options.is_secure:
        require(
            there >= 5,
            f"--aggregation secure needs 5 clients, and {there} are there: invite more devices",
        )
    return replace(settings, output=Path(name), num_clients=total, clients_per_round=size)


def _require_none_runs(federation: Federation, control: Control) -> None:
    for path in federation.run_folders:
        job = RunFolder(path).read_json(JOB)
        if job is None:
            continue
        state = control.state(int(job["flower_run"]))
        require(
            state.is_over,
            f"{path.name} is not over: wait for it, or `pchmr deploy down {federation.path}`",
        )


def _watch(folder: RunFolder, control: Control, run_id: int) -> None:
    """Shows rounds as they come.

    Raises:
        SettingError: The run did not end well.
    """
    shown = 0
    for state in _states(control, run_id):
        rows = folder.read_rows()
        for row in rows[shown:]:
            say(round_line(row))
        shown = max(shown, len(rows))
        if state.is_over:
            break
    summary = folder.read_json(SUMMARY)
    if summary is None or state.ending != COMPLETED:
        raise SettingError(_failure(folder, state))
    say(f"model: sha256 {summary['model_sha256']}   {folder.path}")


def _states(control: Control, run_id: int) -> Iterator[RunState]:
    while True:
        state = control.state(run_id)
        yield state
        time.sleep(POLL_SECONDS)


def _failure(folder: RunFolder, state: RunState) -> str:
    rounds = len(folder.read_rows())
    why = state.details.removeprefix("ServerApp failed with exception: ") or state.ending
    return (
        f"{folder.path.name} {state.ending or 'ended'} after {rounds} rounds: {why}; "
        "`pchmr deploy run --resume` goes on after the last of them"
    )
