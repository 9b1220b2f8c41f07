"""`down` ends what runs; `withdraw` takes a device out and deletes what lies on it."""

import shutil
from contextlib import suppress
from pathlib import Path

from pchmr.annotate.consent import CONSENT, read_consent
from pchmr.annotate.consent import withdraw as withdraw_consent
from pchmr.config import DeployConfig, SettingError
from pchmr.deploy import processes, wire
from pchmr.deploy.device import ABOUT, DEFAULT_NAME, DeviceFolder, find_device
from pchmr.deploy.enrollment import LEAVE_PURPOSE, claim_of
from pchmr.deploy.federation import find_federation
from pchmr.progress import say


def down(config: DeployConfig) -> None:
    """Ends a federation's server with all its devices on this machine, or one device."""
    given = config.name or config.folder
    device = _device_of(given, config.data)
    if device is not None:
        mark = device.about.authority
        count = processes.stop(mark, device.path, device.live)
        say(f"down: {count} processes of {device.about.pseudonym}")
        return
    federation = find_federation(given)
    mark = federation.authority
    count = 0
    for place in processes.places(mark) - {federation.path.resolve()}:
        count += processes.stop(mark, place, place / "live")
    count += processes.stop(mark, federation.path, federation.live)
    say(f"down: {count} processes of {federation.path}")


def _device_of(given: Path | None, data: Path | None) -> DeviceFolder | None:
    """The device that was named, if it was one."""
    if data is not None:
        return find_device(None, data)
    if given is None:
        return DeviceFolder.open(Path()) if Path(ABOUT).is_file() else None
    for path in (given, given / DEFAULT_NAME):
        if (path / ABOUT).is_file():
            return DeviceFolder.open(path)
    return None


def withdraw(config: DeployConfig) -> None:
    """Stops the device, tells the server, deletes keys and state, says what cannot be undone."""
    named = _device_of(config.name or config.folder, config.data)
    device = named if named is not None else find_device(config.name or config.folder, config.data)
    about = device.about
    released = _released(device)
    told = _leave(device)
    processes.stop(about.authority, device.path, device.live)
    shutil.rmtree(device.path)
    say(f"withdrawn: {about.pseudonym} runs no longer, its keys and state are deleted")
    if not told:
        say(f"the server at {about.address} could not be told; without its key nobody can answer")
    for line in _consent(Path(about.data)):
        say(line)
    for model in released:
        say(
            f"not unlearned: {model} learned from this device; it forgets only if it is trained "
            "anew"
        )
    if not released:
        say("no released model is known to have learned from this device")


def _released(device: DeviceFolder) -> list[str]:
    """Models that learned from the device's people: what the server says, else its own record."""
    about, found = device.about, []
    try:
        for client in device.about.clients:
            said = wire.ask(about.address, device.authority, "/pchmr/released", {"client": client})
            found += [str(model) for model in said["models"]]
        return list(dict.fromkeys(found))
    except SettingError:
        return device.answered_runs


def _leave(device: DeviceFolder) -> bool:
    about = device.about
    with suppress(SettingError):
        identity = device.identity()
        proof = identity.sign(LEAVE_PURPOSE, claim_of("", about.authority)).hex()
        words = {"key": identity.public.hex(), "proof": proof}
        wire.ask(about.address, device.authority, "/pchmr/leave", words)
        return True
    return False


def _consent(data: Path) -> list[str]:
    """Personal models go with the consent; labels go with `pchmr labels`, which knows them all."""
    if not (data / CONSENT).is_file() or read_consent(data) is None:
        return []
    left = f"labels and pictures stay in {data}: `pchmr labels {data} --delete all` deletes them"
    return [*withdraw_consent(data), left]
