"""Flower's bundles of code: how they are built, and what of them is signed.

Flower 1.41 hands signatures out for bundles of its own hub alone, so the server adds them to the
record of a bundle itself (`superlink.py`); a SuperNode that is started with `--trusted-entities`
checks them, by code of Flower's.
"""

import hashlib
import json
from collections.abc import Mapping

from pchmr.federated.flower import api  # noqa: F401  telemetry off before the import of flwr

from flwr.cli.build import build_fab_from_files  # isort: skip
from flwr.supercore.primitives.asymmetric_ed25519 import create_message_to_sign  # isort: skip

LICENSED = {"valid_license": "Valid"}
"""Without it SuperNodes take a bundle for one whose server cannot tell signatures."""


def build_bundle(files: Mapping[str, bytes]) -> bytes:
    """The bundle of some files, the same bytes for the same files."""
    return build_fab_from_files(dict(files))[0]


def statement(bundle: bytes, signed_at: int) -> bytes:
    """What is signed: the bundle's digest and a Unix time."""
    return create_message_to_sign(hashlib.sha256(bundle).digest(), signed_at)


def key_name(public: str) -> str:
    """What a signer's key is called in records and in lists of trusted entities."""
    return f"fpk_{hashlib.sha256(public.encode()).hexdigest()[:32]}"


def verifications(name: str, signature: str, signed_at: int) -> dict[str, str]:
    """A signature in the words of Flower's records."""
    return {name: json.dumps({"signature": signature, "signed_at": signed_at}), **LICENSED}


def trusted_entities(public: str) -> str:
    """A list of trusted entities with one key, as YAML."""
    return f"{key_name(public)}: {json.dumps(public)}\n"
