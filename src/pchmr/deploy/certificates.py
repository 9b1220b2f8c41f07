"""The federation's own authority: its key, and the server's certificate that it signs.

Nobody else's authority is trusted, and nobody else trusts this one: devices know it by the SHA-256
of its certificate, which stands in their invites. Keys are written for their owner alone and are
refused where others could read them.
"""

import datetime
import hashlib
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from pchmr.config import SettingError, require
from pchmr.deploy.folders import require_closed
from pchmr.runs import write_bytes

CA_CERTIFICATE, CA_KEY = "ca.crt", "ca.key"
SERVER_CERTIFICATE, SERVER_KEY = "server.crt", "server.key"
CA_DAYS, SERVER_DAYS, CLOCK_SKEW_HOURS = 3650, 365, 1
CURVE = ec.SECP256R1
HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")


def make_authority(folder: Path) -> None:
    """Makes the authority's key and certificate."""
    key = ec.generate_private_key(CURVE())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pchmr federation")])
    uses = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        _begun(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(uses, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(folder / CA_KEY, key)
    write_bytes(folder / CA_CERTIFICATE, made.public_bytes(Encoding.PEM), private=True)


def make_server(folder: Path, names: Sequence[str], days: int = SERVER_DAYS) -> None:
    """Makes the server's key and a certificate for its names, signed by the folder's authority.

    Raises:
        SettingError: The authority's key is open to others, or a name is none.
    """
    authority = read_certificate(folder / CA_CERTIFICATE)
    signer = load_pem_private_key(require_closed(folder / CA_KEY).read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(CURVE())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    alternative = x509.SubjectAlternativeName([_general(name) for name in names])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    made = (
        _begun(name, authority.subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(alternative, critical=False)
        .add_extension(identifier, critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write_key(folder / SERVER_KEY, key)
    write_bytes(folder / SERVER_CERTIFICATE, made.public_bytes(Encoding.PEM), private=True)


def _begun(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=CLOCK_SKEW_HOURS))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        require(
            HOST_NAME.fullmatch(name) is not None,
            f"--names: {name!r} is neither a host name nor an address",
        )
        return x509.DNSName(name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_bytes(path, pem, private=True)


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a file.

    Raises:
        SettingError: It holds none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise SettingError(f"{path} is no certificate: `pchmr deploy init` makes one") from None


def fingerprint(pem: bytes) -> str:
    """SHA-256 of a certificate, in hexadecimal: what an invite names.

    Raises:
        ValueError: The bytes are no certificate.
    """
    return hashlib.sha256(
        x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    ).hexdigest()


def check_server(folder: Path) -> None:
    """Refuses a server certificate that devices would refuse.

    Raises:
        SettingError: It has expired, is not yet valid, or another authority signed it.
    """
    for secret in (CA_KEY, SERVER_KEY):
        require_closed(folder / secret)
    found = read_certificate(folder / SERVER_CERTIFICATE)
    cure = f"`pchmr deploy init {folder} --renew` makes a new one"
    now = datetime.datetime.now(datetime.UTC)
    require(now <= found.not_valid_after_utc, f"the server's certificate has expired: {cure}")
    require(now >= found.not_valid_before_utc, f"the server's certificate is not yet valid: {cure}")
    try:
        found.verify_directly_issued_by(read_certificate(folder / CA_CERTIFICATE))
    except (InvalidSignature, ValueError, TypeError):
        raise SettingError(
            f"the server's certificate is of another authority than {folder / CA_CERTIFICATE}: "
            f"{cure}"
        ) from None
    key = load_pem_private_key((folder / SERVER_KEY).read_bytes(), None)
    is_pair = key.public_key() == found.public_key()
    require(is_pair, f"the server's key does not fit its certificate: {cure}")
