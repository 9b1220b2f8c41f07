"""What the server's operator does before a run: `init`, `up`, `invite`."""

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pchmr.config import (
    DEFAULT_PORT,
    DataOptions,
    DeployConfig,
    FederateConfig,
    SettingError,
    require,
)
from pchmr.deploy import processes
from pchmr.deploy.bundle import SIGNER, make_bundle, make_signer, signer_public
from pchmr.deploy.certificates import (
    CA_CERTIFICATE,
    CA_KEY,
    SERVER_DAYS,
    check_server,
    make_authority,
    make_server,
)
from pchmr.deploy.federation import ABOUT, About, Federation, find_federation
from pchmr.deploy.folders import require_closed
from pchmr.deploy.hosting import write_hosting
from pchmr.deploy.invites import INVITE_DAYS, make_invite
from pchmr.deploy.wire import fetch_authority
from pchmr.progress import say
from pchmr.runs import make_private

START_SECONDS = 300.0
DEADLINE_SECONDS = 600.0
EVERYWHERE = ("0.0.0.0", "::")
ALWAYS = ("localhost", "127.0.0.1")
"""Names under which the server's own programs reach it."""


def settings_of(config: DeployConfig) -> FederateConfig:
    """What the command line says of runs, before the number of clients is known."""
    server = config.server_options
    if server.deadline_seconds is None:
        server = replace(server, deadline_seconds=DEADLINE_SECONDS)
    size = config.clients_per_round or 10
    return FederateConfig(
        output=Path("run"),
        seed=config.seed,
        num_clients=size,
        clients_per_round=size,
        num_rounds=config.num_rounds,
        local_epochs=config.local_epochs,
        algorithm=config.algorithm,
        evaluate_every=0,
        device=config.device,
        data_options=DataOptions(image_size=config.image_size),
        model_options=config.model_options,
        optim_options=config.optim_options,
        server_options=server,
        privacy_options=config.privacy_options,
    )


def init(config: DeployConfig) -> None:
    """Makes authority, server certificate, signing key and settings; or a new certificate."""
    assert config.name is not None
    path, days = config.name, config.days or SERVER_DAYS
    is_there = (path / ABOUT).is_file()
    require(
        is_there == config.renew,
        f"{path} is a federation already: `--renew` makes a new server certificate"
        if is_there
        else f"--renew: {path} is no federation yet, leave it out",
    )
    names = [name.strip() for name in config.names.split(",") if name.strip()]
    require(bool(names), "--names is empty: give what devices call this machine")
    if is_there:
        federation = Federation.open(path)
        known = federation.about
        names = names if config.names != DeployConfig(task="up").names else list(known.names)
        about = replace(known, names=tuple(names), port=config.port or known.port)
        made = Federation.create(path, about, federation.settings)
    else:
        about = About(host=config.host, port=config.port or DEFAULT_PORT, names=tuple(names))
        settings = settings_of(config)
        make_private(path, "DIR", marks=(ABOUT,))
        for known, make in ((CA_CERTIFICATE, make_authority), (SIGNER, make_signer)):
            if not (path / known).exists():
                make(path)
        made = Federation.create(path, about, settings)
    own = [name for name in (about.host,) if name not in EVERYWHERE]
    make_server(path, list(dict.fromkeys([*names, *own, *ALWAYS])), days)
    write_hosting(path, about.port)
    say(f"federation: {path}   authority: {made.authority}")


def up(config: DeployConfig) -> None:
    """Starts the server and returns once it answers."""
    federation = find_federation(config.name or config.folder)
    require_closed(federation.path / CA_KEY)
    check_server(federation.path)
    mark, about = federation.authority, federation.about
    host = config.host if config.host != "127.0.0.1" else about.host
    about = replace(about, host=host, port=config.port or about.port)
    if processes.is_running(mark, federation.path, federation.live):
        say(f"the server is up already at {federation.about.address}: {federation.path}")
        require(
            config.port in (None, federation.about.port),
            f"--port {config.port}: the server runs on {federation.about.port}; first "
            f"`pchmr deploy down {federation.path}`",
        )
        return
    require(
        processes.is_free(host, about.port),
        f"--port {about.port} is taken by another program: end it, or give another --port",
    )
    federation.write(ABOUT, vars(about))
    make_bundle(federation.path)
    processes.stop(mark, federation.path, federation.live)
    processes.prepare(federation.live)
    env = processes.environment(mark, federation.path, federation.live)
    command = [sys.executable, "-m", "pchmr.deploy.superlink"]
    if not config.background:
        os.execve(sys.executable, command, env)
    begun = processes.start(command, federation.live, env)
    if not processes.wait_until(lambda: _answers(federation), begun, START_SECONDS):
        words = processes.last_words(federation.live)
        processes.stop(mark, federation.path, federation.live)
        raise SettingError(f"the server did not start: {words}")
    say(f"up: {about.address}   it waits for devices: `invite` one, then `run` once it has joined")


def _answers(federation: Federation) -> bool:
    """Whether the federation's own server answers on its port."""
    with suppress(SettingError):
        port = federation.about.port
        fetch_authority(f"{_near(federation.about.host)}:{port}", federation.authority)
        return True
    return False


def _near(host: str) -> str:
    """Where this machine reaches what listens on a host."""
    return "127.0.0.1" if host in EVERYWHERE else host


def near_address(federation: Federation) -> str:
    """Where this machine reaches its own server."""
    return f"{_near(federation.about.host)}:{federation.about.port}"


def invite(config: DeployConfig) -> None:
    """Writes an invite for one device."""
    federation = find_federation(config.folder)
    signer = signer_public(federation.path)
    path = make_invite(
        federation, str(config.name), signer, config.clients, config.days or INVITE_DAYS
    )
    say(f"invite: {path}   bring it to the device by a way that nobody else reads; there:")
    say(f"  pchmr deploy join {path.name} --data DIR")
