"""Invites: one file for one device, that names the server's authority and holds a one-time token.

No private key is in it. Who holds the file may join once as that device; the server keeps only the
token's hash, and forgets it at the first use or at the end of its time.
"""

import hashlib
import json
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pchmr.config import SettingError, from_dict, require
from pchmr.deploy.federation import Federation
from pchmr.door import FileError, read_json
from pchmr.runs import is_private, make_folder, write_bytes

FORMAT, SUFFIX = "pchmr/invite/v1", ".invite"
PENDING, USED = "invites", "used"
INVITE_DAYS, SECONDS_PER_DAY = 7, 86_400
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Invite:
    """What a device needs to join.

    Attributes:
        format: Of the file.
        address: `host:port` of the server.
        authority: SHA-256 of the certificate of its authority.
        signer: Public key of those who sign bundles, `ssh-ed25519 ...`.
        token: Holds once.
        until: Unix time.
        clients: Logical clients that the device plays.
    """

    format: str = FORMAT
    address: str
    authority: str
    signer: str
    token: str
    until: float
    clients: int = 1


def token_name(token: str) -> str:
    """What the server keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def make_invite(
    federation: Federation, name: str, signer: str, clients: int = 1, days: int = INVITE_DAYS
) -> Path:
    """Writes `NAME.invite` into the federation's folder; returns its path.

    Raises:
        SettingError: The name is none.
    """
    require(
        NAME.fullmatch(name) is not None,
        f"invite {name!r}: give a name of letters, digits, - and _, such as tablet-1",
    )
    until = time.time() + days * SECONDS_PER_DAY
    invite = Invite(
        address=federation.about.address,
        authority=federation.authority,
        signer=signer,
        token=secrets.token_urlsafe(32),
        until=float(round(until)),
        clients=clients,
    )
    pending = federation.path / PENDING
    make_folder(pending / USED, private=True)
    known = {"until": invite.until, "clients": clients}
    write_bytes(pending / token_name(invite.token), json.dumps(known).encode(), private=True)
    path = federation.path / f"{name}{SUFFIX}"
    text = json.dumps(asdict(invite), indent=2) + "\n"
    write_bytes(path, text.encode(), private=True)
    return path


def read_invite(path: Path) -> Invite:
    """The invite in a file.

    Raises:
        SettingError: It is none, it is open to others, or its time has passed.
    """
    require(path.is_file(), f"no invite at {path}: ask the federation's operator for one")
    require(is_private(path), f"{path} is open to others, who could join with it: chmod 600 {path}")
    try:
        invite = from_dict(Invite, dict(read_json(path)))
    except (FileError, ValueError, TypeError):
        raise SettingError(f"{path} is no invite: ask the federation's operator for one") from None
    require(invite.format == FORMAT, f"{path} is of another version of pchmr: install the same one")
    require(
        "://" not in invite.address,
        f"{path} names {invite.address}: a federation is reached by https alone, as host:port; "
        "ask for a new invite",
    )
    require(time.time() < invite.until, f"the time of {path} has passed: ask for a new invite")
    return invite


def take_token(federation: Federation, token: str) -> int | str:
    """Uses a token up; the number of clients that it stands for, or the code why it does not hold.

    Of two that come at once one gets it: moving the file decides.
    """
    pending, name = federation.path / PENDING, token_name(token)
    if (pending / USED / name).exists():
        return "token_used"
    try:
        (pending / name).rename(pending / USED / name)
    except OSError:
        return "token_unknown"
    known = dict(read_json(pending / USED / name))
    return "token_expired" if time.time() >= known["until"] else int(known["clients"])
