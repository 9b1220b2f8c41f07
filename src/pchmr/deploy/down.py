"""`pchmr deploy down`: ends what runs and removes what it wrote meanwhile."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from pchmr.config import DeployConfig
from pchmr.deploy import processes
from pchmr.deploy.device import ABOUT, DEFAULT_NAME, DeviceFolder, find_device
from pchmr.deploy.federation import STATE, Federation, find_federation
from pchmr.federated.secure.device import wipe_rounds
from pchmr.progress import say

LOCK_SECONDS = 30.0


def down(config: DeployConfig) -> None:
    """Ends a federation's server with all its devices on this machine, or one device."""
    given = config.name or config.folder
    device = device_of(given, config.data)
    if device is not None:
        mark = device.about.authority
        count = processes.stop(mark, device.path, device.live)
        wipe_rounds(device.path)
        say(f"down: {count} processes of {device.about.pseudonym}")
        return
    federation = find_federation(given)
    mark = federation.authority
    count = 0
    for place in processes.places(mark) - {federation.path.resolve()}:
        count += processes.stop(mark, place, place / "live")
        wipe_rounds(place)
    count += processes.stop(mark, federation.path, federation.live)
    _settle(federation)
    say(f"down: {count} processes of {federation.path}")


def device_of(given: Path | None, data: Path | None) -> DeviceFolder | None:
    """The device that was named, if it was one."""
    if data is not None:
        return find_device(None, data)
    if given is None:
        return DeviceFolder.open(Path()) if Path(ABOUT).is_file() else None
    for path in (given, given / DEFAULT_NAME):
        if (path / ABOUT).is_file():
            return DeviceFolder.open(path)
    return None


def _settle(federation: Federation) -> None:
    """Folds what the ended server had noted beside its database into it."""
    path = federation.path / STATE
    if path.exists():
        with (
            suppress(sqlite3.OperationalError),  # whoever reads it folds it in
            closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as database,
        ):
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("PRAGMA journal_mode=DELETE")
