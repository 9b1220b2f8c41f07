"""A device's own words with the server: JSON over HTTPS, to the authority of its invite alone.

The authority's certificate is fetched first, over a connection that proves nothing, and holds only
if its fingerprint is the invite's. Whatever goes wrong is told in one line with the cure.
"""

import http.client
import json
import socket
import ssl
from collections.abc import Mapping

from pchmr.config import SettingError, require
from pchmr.deploy.certificates import fingerprint
from pchmr.door import parse_json

ENROLL_PURPOSE, LEAVE_PURPOSE = b"enroll ", b"leave "
SECONDS, MOST_REPLY = 30.0, 1 << 22
CODES = {
    "token_used": "this invite was used before: ask for a new one, and ask who used it",
    "token_unknown": "the server does not know this invite: ask its operator for a new one",
    "token_expired": "the time of this invite has passed: ask for a new one",
    "key_known": "this device's keys are known already: withdraw first, or give another --folder",
    "key_unknown": "the server does not know this device's key: join again with a new invite",
    "number_of_keys": "the invite is for another number of clients: ask for a new one",
    "node_key": "the server takes P-384 keys: install the same version of pchmr",
    "proof": "the server could not verify this device's signature: install the same version",
    "no_route": "the server is of another version of pchmr: install the same one",
}


def claim_of(token: str, authority: str) -> bytes:
    """What a device signs, so that its keys are its own and its words are for this federation."""
    return f"{authority} {token}".encode()


def place_of(address: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        SettingError: They are not.
    """
    host, _, port = address.rpartition(":")
    require(
        bool(host) and port.isdecimal() and "//" not in host,
        f"{address} is no address: host:port is, and the connection is https in any case",
    )
    return host.strip("[]"), int(port)


def fetch_authority(address: str, expected: str) -> str:
    """The authority's certificate, PEM.

    Raises:
        SettingError: Nobody answers, or the server's authority is another one.
    """
    unproven = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unproven.check_hostname, unproven.verify_mode = False, ssl.CERT_NONE
    pem = str(_ask(address, unproven, "/pchmr/authority", {}).get("certificate", ""))
    try:
        found = fingerprint(pem.encode())
    except ValueError:
        found = ""
    require(
        found == expected,
        f"the server at {address} is of another authority than the invite's: somebody stands "
        "between, or the federation was made anew; ask its operator",
    )
    return pem


def ask(address: str, authority: str, path: str, words: Mapping[str, object]) -> dict:
    """The server's answer to a request, over a connection that its authority vouches for.

    Raises:
        SettingError: It refuses, or its certificate does not hold.
    """
    context = ssl.create_default_context(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return _ask(address, context, path, words)


def _ask(address: str, context: ssl.SSLContext, path: str, words: Mapping[str, object]) -> dict:
    host, port = place_of(address)
    connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    try:
        connection.request("POST", path, json.dumps(words), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        found = parse_json(reply.read(MOST_REPLY).decode())
    except ssl.SSLCertVerificationError as error:
        raise SettingError(_untrusted(address, error)) from None
    except ssl.SSLError as error:
        plain = "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER" in str(error)
        what = "speaks http, not https" if plain else f"does not speak TLS ({error.reason})"
        raise SettingError(f"{address} {what}: is this the federation's port?") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SettingError(
            f"no federation answers at {address} ({_cause(error)}): is it up, and is the address "
            "right?"
        ) from None
    finally:
        connection.close()
    if not isinstance(found, dict) or reply.status != http.client.OK:
        code = str(found.get("code", "")) if isinstance(found, dict) else ""
        raise SettingError(CODES.get(code, f"the server refuses the request ({reply.status})"))
    return found


def _cause(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the name is unknown"
    return getattr(error, "strerror", None) or type(error).__name__


def _untrusted(address: str, error: ssl.SSLCertVerificationError) -> str:
    why = error.verify_message.lower()
    cure = "ask its operator to run `pchmr deploy init DIR --renew`"
    if "expired" in why or "not yet valid" in why:
        return f"the certificate of {address} has expired or is not valid yet: {cure}"
    if "mismatch" in why or "doesn't match" in why:
        return f"the certificate of {address} is for another name: {cure} --names with this one"
    return f"the certificate of {address} is of a foreign authority: ask for a new invite"
