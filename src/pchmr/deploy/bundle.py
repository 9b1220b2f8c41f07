"""The bundle that Flower carries to devices, and its signature.

It is a shim: a few lines that import the installed package. Devices run a bundle only if the
operator's key signed it; that key's public half comes with the invite. Whoever reaches the server
may hand in another bundle, and devices refuse it.
"""

import base64
import hashlib
import json
import time
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from pchmr.config import SettingError
from pchmr.deploy.folders import require_closed
from pchmr.door import read_json
from pchmr.federated.flower.bundles import build_bundle, key_name, statement, verifications
from pchmr.runs import write_bytes

SIGNER, BUNDLE, SIGNATURE = "signer.key", "bundle.fab", "bundle.sig"
SERVER_CODE = "from pchmr.deploy.server_app import app\n\n__all__ = ['app']\n"
CLIENT_CODE = "from pchmr.deploy.client_app import app\n\n__all__ = ['app']\n"
PYPROJECT = """[project]
name = "pchmr-federation"
version = "{version}"
description = "Imports the installed pchmr"
license = {{ file = "LICENSE" }}
dependencies = ["flwr>={flwr}"]

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "pchmr"
fab-format-version = 1
flwr-version-target = "{flwr}"
fab-include = ["pchmr_federation/*.py", "LICENSE"]

[tool.flwr.app.components]
serverapp = "pchmr_federation.server:app"
clientapp = "pchmr_federation.client:app"

[tool.flwr.app.config]
run = ""
resume = false
"""
LICENSE = "Licensed under the Apache License, Version 2.0, as the installed package is.\n"


def make_signer(folder: Path) -> None:
    """Makes the key that signs bundles."""
    key = Ed25519PrivateKey.generate()
    raw = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    write_bytes(folder / SIGNER, raw, private=True)


def _signer(folder: Path) -> Ed25519PrivateKey:
    key = load_ssh_private_key(require_closed(folder / SIGNER).read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def signer_public(folder: Path) -> str:
    """The public half, as one line of OpenSSH."""
    public = _signer(folder).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def make_bundle(folder: Path, server: str = SERVER_CODE, client: str = CLIENT_CODE) -> None:
    """Builds the bundle of the installed version and signs it.

    Args:
        folder: Of the federation.
        server: Code of the server's app.
        client: Code of the devices' app.
    """
    about = PYPROJECT.format(version=version("pchmr"), flwr=version("flwr"))
    files = {
        "pyproject.toml": about.encode(),
        "LICENSE": LICENSE.encode(),
        "pchmr_federation/__init__.py": b"",
        "pchmr_federation/server.py": server.encode(),
        "pchmr_federation/client.py": client.encode(),
    }
    bundle, now = build_bundle(files), int(time.time())
    signature = _signer(folder).sign(statement(bundle, now))
    signed = {
        "bundle": hashlib.sha256(bundle).hexdigest(),
        "signed_at": now,
        "signature": base64.urlsafe_b64encode(signature).rstrip(b"=").decode(),
    }
    write_bytes(folder / BUNDLE, bundle, private=True)
    write_bytes(folder / SIGNATURE, (json.dumps(signed) + "\n").encode(), private=True)


def read_bundle(folder: Path) -> bytes:
    """The bundle, whose signature is there and fits.

    Raises:
        SettingError: It is not signed, or was changed after.
    """
    cure = "`pchmr deploy up` builds and signs it anew"
    try:
        bundle = (folder / BUNDLE).read_bytes()
    except OSError:
        raise SettingError(f"there is no bundle in {folder}: {cure}") from None
    if not signatures_of(folder, hashlib.sha256(bundle).hexdigest()):
        raise SettingError(f"{folder / BUNDLE} is not signed, and no device would run it: {cure}")
    return bundle


def signatures_of(folder: Path, digest: str) -> dict[str, str]:
    """What the server sends along with a bundle: nothing for one that was not signed here."""
    try:
        signed = dict(read_json(folder / SIGNATURE))
        if signed["bundle"] != digest:
            return {}
        name = key_name(signer_public(folder))
        return verifications(name, str(signed["signature"]), int(signed["signed_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
