"""`pchmr deploy withdraw`: takes a device out of a federation and deletes what lies on it."""

import shutil
from contextlib import suppress
from pathlib import Path

from pchmr.config import DeployConfig, SettingError
from pchmr.deploy import processes, wire
from pchmr.deploy.agreement import forget_people
from pchmr.deploy.device import DeviceFolder, find_device
from pchmr.deploy.down import device_of
from pchmr.federated.secure.device import wipe
from pchmr.progress import say


def withdraw(config: DeployConfig) -> None:
    """Stops the device, tells the server, deletes keys and state, says what cannot be undone."""
    named = device_of(config.name or config.folder, config.data)
    device = named if named is not None else find_device(config.name or config.folder, config.data)
    about = device.about
    released = _released(device)
    told = _leave(device)
    processes.stop(about.authority, device.path, device.live)
    wipe(device.path)
    shutil.rmtree(device.path)
    say(f"withdrawn: {about.pseudonym} runs no longer, its keys and state are deleted")
    if not told:
        say(f"the server at {about.address} could not be told; without its key nobody can answer")
    for line in forget_people(Path(about.data)):
        say(line)
    for model in released:
        say(f"not unlearned: {model} learned from this device, and forgets by new training alone")
    if not released:
        say("no released model is known to have learned from this device")


def _released(device: DeviceFolder) -> list[str]:
    """Models that learned from the device's people: what the server says, else its own record."""
    try:
        return [str(model) for model in _tell(device, "/pchmr/released")["models"]]
    except SettingError:
        return device.answered_runs


def _leave(device: DeviceFolder) -> bool:
    """Takes the device's key out of the server's register; whether that could be done."""
    with suppress(SettingError):
        _tell(device, "/pchmr/leave")
        return True
    return False


def _tell(device: DeviceFolder, path: str) -> dict:
    """Says something in the device's own name."""
    about, identity = device.about, device.identity()
    proof = identity.sign(wire.LEAVE_PURPOSE, wire.claim_of("", about.authority)).hex()
    words = {"key": identity.public.hex(), "proof": proof}
    return wire.ask(about.address, device.authority, path, words)
