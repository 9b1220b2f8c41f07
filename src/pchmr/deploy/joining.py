"""`pchmr deploy join`: keys and policy are made on the device, and its program is started.

What leaves the device is the public halves of its keys, proofs that they are its own, and the least
power of two above its number of samples. Joining again with the same invite and folder starts the
program again; with `--roster` it pins the roster whose fingerprint the operator told. A device that
was told of secure aggregation, or pins a roster, answers no plain task: its update is never seen.
"""

import os
import sys
from pathlib import Path

from pchmr.config import DeployConfig, FederateConfig, SettingError, from_json, require
from pchmr.deploy import processes, wire
from pchmr.deploy.device import (
    AUTHORITY,
    DEFAULT_NAME,
    SUMS_ONLY,
    TRUSTED,
    AboutDevice,
    DeviceFolder,
)
from pchmr.deploy.invites import Invite, read_invite
from pchmr.federated.flower.bundles import trusted_entities
from pchmr.federated.policy import POLICY, ClientPolicy
from pchmr.federated.secure import Roster, SecurePolicy
from pchmr.federated.secure.identity import pinned
from pchmr.progress import say
from pchmr.runs import write_bytes

CONNECT_SECONDS = 300.0
CONNECTED = "SuperNode ID:"


def join(config: DeployConfig) -> None:
    """Enrolls the device unless it is, pins the roster if asked to, and starts its program."""
    assert config.name is not None
    require(config.data is not None, "`pchmr deploy join` needs --data DIR: the device's people")
    assert config.data is not None
    require(config.data.is_dir(), f"--data {config.data} is no folder")
    path = config.folder or config.data / DEFAULT_NAME
    folder = DeviceFolder(path)
    if not folder.has_joined:
        invite = read_invite(config.name)
        folder = _enroll(config, invite, path)
    folder = DeviceFolder.open(path)
    if config.roster is not None:
        _pin(folder, config.roster)
    elif folder.pinned is None and folder.policy.secure.trust_on_first_use:
        _keep(folder, pinned(None, _offered(folder), trust_on_first_use=True))
    start(folder, background=config.background)


def _enroll(config: DeployConfig, invite: Invite, path: Path) -> DeviceFolder:
    """Joins, once the people were found to be there and to be allowed."""
    assert config.data is not None
    authority = wire.fetch_authority(invite.address, invite.authority)
    said = wire.ask(invite.address, authority, "/pchmr/settings", {})
    settings = from_json(FederateConfig, str(said["settings"]))
    most, layout = _look(config, settings, invite.clients)
    agreed = policy_for(settings)
    folder = enroll(invite, path, data=config.data, most_samples=most, agreed=agreed)
    folder.remember_layout(settings, layout)
    return folder


def policy_for(settings: FederateConfig) -> ClientPolicy:
    """What a device agrees to by joining: sums alone, and their noise, if it was told of them."""
    options = settings.privacy_options
    if not options.is_secure:
        return ClientPolicy()
    noise = options.dp_noise_multiplier
    say("policy: this device answers secure rounds alone, no plain task whatever the server says")
    if noise is not None:
        say(f"policy: and no sum with less noise than {noise:g} clips")
    return ClientPolicy(aggregations=SUMS_ONLY, secure=SecurePolicy(least_noise=noise))


def enroll(
    invite: Invite,
    path: Path,
    *,
    data: Path,
    most_samples: int,
    agreed: ClientPolicy | None = None,
) -> DeviceFolder:
    """Makes keys in a folder and has the server take them in.

    Args:
        invite: Used up by it.
        path: Of the device.
        data: Folder of its people.
        most_samples: None of its clients holds more: a power of two.
        agreed: What it answers; by default as `ClientPolicy` has it.
    """
    authority = wire.fetch_authority(invite.address, invite.authority)
    folder = DeviceFolder.create(path)
    write_bytes(path / AUTHORITY, authority.encode(), private=True)
    write_bytes(path / TRUSTED, trusted_entities(invite.signer).encode(), private=True)
    keys = folder.pending_keys(invite.clients)
    claim = wire.claim_of(invite.token, invite.authority)
    words = {
        "token": invite.token,
        "node_key": folder.node_public(),
        "keys": [key.public.hex() for key in keys],
        "proofs": [key.sign(wire.ENROLL_PURPOSE, claim).hex() for key in keys],
        "most_samples": most_samples,
    }
    told = wire.ask(invite.address, authority, "/pchmr/enroll", words)
    about = AboutDevice(
        address=invite.address,
        authority=invite.authority,
        pseudonym=str(told["pseudonym"]),
        data=str(data.resolve()),
        clients=tuple(map(int, told["clients"])),
    )
    folder.settle(about, agreed)
    say(f"joined as {about.pseudonym}, clients {', '.join(map(str, about.clients))}: {path}")
    return folder


def _look(config: DeployConfig, settings: FederateConfig, num_clients: int) -> tuple[int, str]:
    """Opens the people as a round would.

    Returns:
        The public bound on samples of a client, and the layout of the network.

    Raises:
        UserError: They cannot be used, or nobody agreed to it.
    """
    from pchmr.deploy.agreement import agree
    from pchmr.deploy.people import device_world, fingerprint_of
    from pchmr.federated.hidden import public_bound

    assert config.data is not None
    world = device_world(settings, config.data, tuple(range(num_clients)))
    if world.train_set.is_private:
        agree(config)
    most = public_bound(max(len(rows) for rows in world.partitions))
    return most, fingerprint_of(settings, world)


def _pin(folder: DeviceFolder, expected: str) -> None:
    """Pins the server's roster if it is the one whose fingerprint was told.

    Every device that joins changes the roster, so one that was pinned before is replaced.

    Raises:
        SettingError: It is another one, or lacks this device.
    """
    roster = _offered(folder)
    found = roster.fingerprint.hex()
    require(
        found == expected.strip().lower(),
        f"the server's roster is {found}, not {expected}: compare again with the operator over "
        "another channel, and take no part if they differ",
    )
    _keep(folder, roster)


def _offered(folder: DeviceFolder) -> Roster:
    """The server's roster."""
    told = wire.ask(folder.about.address, folder.authority, "/pchmr/roster", {})
    return Roster.of(bytes.fromhex(str(key)) for key in told["keys"])


def _keep(folder: DeviceFolder, roster: Roster) -> None:
    """Pins a roster that holds this device, and says how it differs from the one before.

    Raises:
        SettingError: It lacks this device.
    """
    own, before = folder.identity().public, folder.pinned
    require(own in roster.keys, "this device is not in the server's roster: ask its operator")
    folder.pin(roster)
    new = set(roster.keys) - set(before.keys if before else ())
    changed = f", {len(new)} of them new to this device" if before and new else ""
    say(f"roster pinned: {len(roster.keys)} clients{changed}, {roster.fingerprint.hex()}")
    if folder.take_sums_only():
        say(
            "policy: this device answers secure rounds alone from now on; to answer plain tasks "
            f'too, set "aggregations": ["plain", "secure"] in {folder.path / POLICY}'
        )


def start(folder: DeviceFolder, *, background: bool = True) -> None:
    """Starts the device's program and returns once the server knows it.

    Raises:
        SettingError: The server does not let it in.
    """
    about = folder.about
    if processes.is_running(about.authority, folder.path, folder.live):
        say(f"{about.pseudonym} runs already: {folder.path}")
        return
    _require_key_is_known(folder)
    processes.stop(about.authority, folder.path, folder.live)
    processes.prepare(folder.live)
    env = processes.environment(about.authority, folder.path, folder.live)
    command = [sys.executable, "-m", "pchmr.deploy.supernode"]
    if not background:
        os.execve(sys.executable, command, env)
    begun = processes.start(command, folder.live, env)

    def is_connected() -> bool:
        return CONNECTED in (folder.live / processes.LOG).read_text(errors="replace")

    if not processes.wait_until(is_connected, begun, CONNECT_SECONDS):
        words = processes.last_words(folder.live)
        processes.stop(about.authority, folder.path, folder.live)
        raise SettingError(f"the device's program did not connect: {words}")
    say(f"{about.pseudonym} is connected to {about.address}")


def _require_key_is_known(folder: DeviceFolder) -> None:
    """Refuses to start where the server would let nobody in."""
    key = folder.identity().public.hex()
    wire.ask(folder.about.address, folder.authority, "/pchmr/known", {"key": key})
