"""What a federation refuses, in one line with the cure; no process is started here."""

import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pchmr.config import (
    DeployConfig,
    PrivacyOptions,
    ServerOptions,
    SettingError,
    from_json,
)
from pchmr.deploy import joining, operator, processes, running, wire
from pchmr.deploy.bundle import BUNDLE, SIGNATURE, make_bundle, read_bundle, signatures_of
from pchmr.deploy.certificates import CA_CERTIFICATE, check_server, make_server
from pchmr.deploy.device import AboutDevice, DeviceFolder
from pchmr.deploy.down import down
from pchmr.deploy.enrollment import Enrollment
from pchmr.deploy.federation import Federation, nodes_of, public_keys, roster_of
from pchmr.deploy.invites import make_invite, read_invite, take_token, token_name
from pchmr.deploy.withdrawing import withdraw
from pchmr.federated.flower import superlink
from pchmr.federated.secure import Roster, SecurePolicy
from pchmr.runs import write_bytes


class Nodes(superlink.Nodes):
    """A register of nodes in memory."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []

    def register(self, public_key: bytes) -> int:
        self.keys.append(public_key)
        return 2**63 + len(self.keys)

    def remove(self, node_id: int) -> None:
        self.keys[node_id - 2**63 - 1] = b""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    operator.init(DeployConfig(task="init", name=tmp_path / "fed", names="localhost", days=2))
    return Federation.open(tmp_path / "fed")


class Server:
    """Enrollment over TLS in a thread."""

    def __init__(self, federation: Federation, with_tls: bool = True) -> None:
        enrollment, nodes = Enrollment(federation), Nodes()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                said = enrollment.answer(self.path, body, nodes)
                self.send_response(said.status)
                self.end_headers()
                self.wfile.write(said.body)

            def log_message(self, *words: object) -> None:
                pass

        self.nodes = nodes
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if with_tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(federation.path / "server.crt", federation.path / "server.key")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(federation: Federation) -> Iterator[Server]:
    made = Server(federation)
    yield made
    made.close()


def invited(federation: Federation, address: str, name: str = "d0", clients: int = 1) -> Path:
    path = make_invite(federation, name, "ssh-ed25519 AAAA", clients)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"address": address}))
    return path


def joined(invite: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> DeviceFolder:
    monkeypatch.setattr(joining, "_look", lambda *_: (16, "layout"))
    config = DeployConfig(task="join", name=invite, data=folder.parent)
    return joining._enroll(config, read_invite(invite), folder)


def words(error: pytest.ExceptionInfo[SettingError]) -> str:
    said = str(error.value)
    assert "\n" not in said
    return said


def test_secrets_are_for_their_owner_and_others_are_refused(federation: Federation) -> None:
    make_bundle(federation.path)
    for path in federation.path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    for name in ("ca.key", "server.key"):
        (federation.path / name).chmod(0o640)
        with pytest.raises(SettingError) as refused:
            check_server(federation.path)
        assert f"chmod 600 {federation.path / name}" in words(refused)
        (federation.path / name).chmod(0o600)
    federation.path.chmod(0o750)
    with pytest.raises(SettingError, match="chmod 700"):
        Federation.open(federation.path)


def test_a_second_init_keeps_the_authority_and_needs_to_be_asked(federation: Federation) -> None:
    before = federation.authority
    with pytest.raises(SettingError, match="--renew"):
        operator.init(DeployConfig(task="init", name=federation.path))
    operator.init(DeployConfig(task="init", name=federation.path, renew=True, names="other.org"))
    assert federation.authority == before
    assert federation.about.names == ("other.org",)
    check_server(federation.path)


def test_a_device_joins_with_keys_that_it_made(
    federation: Federation, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invite = invited(federation, server.address, clients=3)
    assert "PRIVATE" not in invite.read_text()
    device = joined(invite, tmp_path / "people" / "federation", monkeypatch)
    (known,) = federation.devices
    assert device.about.clients == known.clients == (0, 1, 2)
    assert nodes_of([known]) == [known.node_id] * 3
    assert device.identity().public in public_keys([known])
    for path in device.path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    told = "".join(path.read_text() for path in federation.path.glob("*.json"))
    assert "people" not in told and known.most_samples == 16


def test_an_invite_holds_once(
    federation: Federation, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invite = invited(federation, server.address)
    joined(invite, tmp_path / "first" / "federation", monkeypatch)
    with pytest.raises(SettingError) as refused:
        joined(invite, tmp_path / "second" / "federation", monkeypatch)
    assert "used before: ask for a new one" in words(refused)
    assert len(federation.devices) == 1 and len(server.nodes.keys) == 1


def test_of_many_that_come_at_once_one_gets_a_token(federation: Federation) -> None:
    token = json.loads(make_invite(federation, "d", "ssh-ed25519 AAAA").read_text())["token"]
    found: list[int | str] = []
    threads = [
        threading.Thread(target=lambda: found.append(take_token(federation, token)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, found)) == ["1"] + ["token_used"] * 7 or found.count(1) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"until": 1.0}, "time of"),
        ({"address": "https://localhost:1"}, "https alone"),
        ({"address": "http://localhost:1"}, "https alone"),
        ({"format": "pchmr/invite/v9"}, "another version"),
        ({"token": 3}, "is no invite"),
    ],
)
def test_invites_that_cannot_be_used(federation: Federation, change: dict, said: str) -> None:
    path = invited(federation, "localhost:1")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SettingError) as refused:
        read_invite(path)
    assert said in words(refused)


def test_an_invite_that_others_read_is_refused(federation: Federation) -> None:
    path = invited(federation, "localhost:1")
    path.chmod(0o644)
    with pytest.raises(SettingError, match="chmod 600"):
        read_invite(path)


def test_a_token_ends_at_the_server_too(federation: Federation) -> None:
    path = invited(federation, "localhost:1")
    token = json.loads(path.read_text())["token"]
    pending = federation.path / "invites" / token_name(token)
    pending.write_text(json.dumps({"until": time.time() - 1, "clients": 1}))
    assert take_token(federation, token) == "token_expired"
    assert take_token(federation, "guessed") == "token_unknown"


def test_a_foreign_authority_is_refused(
    federation: Federation, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(SettingError) as refused:
        wire.fetch_authority(server.address, "00" * 32)
    assert "another authority" in words(refused)
    operator.init(DeployConfig(task="init", name=tmp_path / "other", names="localhost"))
    other = (tmp_path / "other" / CA_CERTIFICATE).read_text()
    with pytest.raises(SettingError) as refused:
        wire.ask(server.address, other, "/pchmr/settings", {})
    assert "foreign authority" in words(refused)


def test_an_expired_certificate_is_refused_on_both_sides(federation: Federation) -> None:
    make_server(federation.path, ["localhost", "127.0.0.1"], days=0)
    with pytest.raises(SettingError) as refused:
        check_server(federation.path)
    assert "expired" in words(refused) and "--renew" in words(refused)
    server = Server(federation)
    with pytest.raises(SettingError) as refused:
        authority = (federation.path / CA_CERTIFICATE).read_text()
        wire.ask(server.address, authority, "/pchmr/settings", {})
    assert "expired" in words(refused) and "--renew" in words(refused)
    server.close()


def test_a_certificate_for_another_name_is_refused(federation: Federation) -> None:
    make_server(federation.path, ["elsewhere.org"])
    server = Server(federation)
    with pytest.raises(SettingError, match="another name"):
        authority = (federation.path / CA_CERTIFICATE).read_text()
        wire.ask(server.address, authority, "/pchmr/settings", {})
    server.close()


def test_http_in_place_of_https_is_told(federation: Federation) -> None:
    server = Server(federation, with_tls=False)
    with pytest.raises(SettingError) as refused:
        wire.fetch_authority(server.address, federation.authority)
    assert "http, not https" in words(refused) or "no federation answers" in words(refused)
    server.close()


def test_nobody_there_is_told() -> None:
    with pytest.raises(SettingError, match="no federation answers"):
        wire.fetch_authority(f"127.0.0.1:{processes.free_port()}", "")


def test_an_unknown_key_is_refused(
    federation: Federation, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invite = invited(federation, server.address)
    device = joined(invite, tmp_path / "p" / "federation", monkeypatch)
    federation.write_devices([])
    with pytest.raises(SettingError) as refused:
        joining.start(device)
    assert "does not know this device's key: join again" in words(refused)


def test_another_roster_is_refused_and_the_right_one_pinned(
    federation: Federation, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invite = invited(federation, server.address)
    device = joined(invite, tmp_path / "p" / "federation", monkeypatch)
    with pytest.raises(SettingError) as refused:
        joining._pin(device, "ab" * 32)
    assert "compare again with the operator" in words(refused) and device.pinned is None
    right = roster_of(federation.devices)
    joining._pin(device, right.fingerprint.hex().upper())
    assert device.pinned == right
    key = federation.devices[0].keys[0]
    stranger = replace(federation.devices[0], keys=("ab" * 32,))
    federation.write_devices([stranger])
    fingerprint = Roster.of([bytes.fromhex("ab" * 32)]).fingerprint.hex()
    with pytest.raises(SettingError, match="not in the server's roster"):
        joining._pin(device, fingerprint)
    assert key != stranger.keys[0]


def test_a_device_of_a_secure_federation_answers_no_plain_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = PrivacyOptions(aggregation="secure", dp_clip=1.0, dp_noise_multiplier=0.7)
    frozen = ServerOptions(batch_norm="freeze")
    path = tmp_path / "fed"
    start = {"names": "localhost", "privacy_options": told, "server_options": frozen}
    operator.init(DeployConfig(task="init", name=path, **start))
    federation = Federation.open(path)
    with closing(Server(federation)) as server:
        invite = invited(federation, server.address)
        device = joined(invite, tmp_path / "p" / "federation", monkeypatch)
    policy = device.policy
    assert policy.aggregations == ("secure",) and policy.secure.least_noise == 0.7
    assert "no plain task" in capsys.readouterr().err
    plain = replace(federation.settings, privacy_options=PrivacyOptions())
    assert policy.allows(federation.settings) and not policy.allows(plain)


def test_a_pinned_roster_ends_plain_tasks_and_a_new_one_takes_its_place(
    federation: Federation,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    device = joined(invited(federation, server.address), tmp_path / "p" / "federation", monkeypatch)
    assert device.policy.aggregations == ("plain", "secure")
    first = roster_of(federation.devices)
    joining._pin(device, first.fingerprint.hex())
    assert device.policy.aggregations == ("secure",)
    assert "secure rounds alone" in capsys.readouterr().err
    joined(
        invited(federation, server.address, name="e"), tmp_path / "q" / "federation", monkeypatch
    )
    with pytest.raises(SettingError, match="compare again"):
        joining._pin(device, first.fingerprint.hex())
    second = roster_of(federation.devices)
    joining._pin(device, second.fingerprint.hex())
    assert device.pinned == second and "1 of them new" in capsys.readouterr().err


def test_trust_on_first_use_pins_once_and_only_if_the_owner_asks(
    federation: Federation, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "start", lambda *_, **__: None)
    path = tmp_path / "p" / "federation"
    device = joined(invited(federation, server.address), path, monkeypatch)
    again = DeployConfig(task="join", name=path, data=path.parent)
    joining.join(again)
    assert device.pinned is None
    asked = replace(device.policy, secure=SecurePolicy(trust_on_first_use=True))
    asked.save(path / "policy.json")
    joining.join(again)
    first = roster_of(federation.devices)
    assert device.pinned == first and device.policy.aggregations == ("secure",)
    joined(
        invited(federation, server.address, name="e"), tmp_path / "q" / "federation", monkeypatch
    )
    joining.join(again)
    assert device.pinned == first


def test_a_bundle_that_nobody_signed_or_that_changed_is_refused(federation: Federation) -> None:
    make_bundle(federation.path)
    bundle = read_bundle(federation.path)
    assert len(bundle) < 10_000
    assert signatures_of(federation.path, "00" * 32) == {}
    (federation.path / BUNDLE).write_bytes(bundle + b"x")
    with pytest.raises(SettingError) as refused:
        read_bundle(federation.path)
    assert "is not signed" in words(refused)
    (federation.path / BUNDLE).write_bytes(bundle)
    (federation.path / SIGNATURE).write_text("{}")
    with pytest.raises(SettingError, match="is not signed"):
        read_bundle(federation.path)


def test_a_signature_holds_by_flowers_own_check(federation: Federation) -> None:
    from flwr.supercore.fab import Fab
    from flwr.supernode.start_client_internal import _verify_fab

    from pchmr.deploy.bundle import signer_public
    from pchmr.federated.flower.bundles import key_name

    make_bundle(federation.path)
    bundle = read_bundle(federation.path)
    public = signer_public(federation.path)
    digest = from_signature(federation.path)
    fab = Fab(digest, bundle, signatures_of(federation.path, digest))
    assert _verify_fab(fab, {key_name(public): public})
    assert not _verify_fab(
        Fab(digest, bundle + b"x", fab.verifications), {key_name(public): public}
    )
    assert not _verify_fab(fab, {"fpk_other": public})


def from_signature(folder: Path) -> str:
    return json.loads((folder / SIGNATURE).read_text())["bundle"]


def test_a_busy_port_is_refused(federation: Federation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        config = DeployConfig(task="up", name=federation.path, port=port)
        with pytest.raises(SettingError) as refused:
            operator.up(config)
    assert f"--port {port} is taken by another program" in words(refused)
    assert not federation.live.exists()


def test_a_run_needs_a_server_and_devices(federation: Federation) -> None:
    with pytest.raises(SettingError, match="the server is not up"):
        running.run(DeployConfig(task="run", name=federation.path))
    with pytest.raises(SettingError, match="no device has joined"):
        running.for_devices(federation.settings, [], "run-001")


def test_what_a_run_says_stands_in_place_of_what_init_said(tmp_path: Path) -> None:
    first = DeployConfig(task="init", name=tmp_path / "f", num_rounds=7, seed=3)
    settings = operator.settings_of(first)
    later = DeployConfig(task="run", num_rounds=2)
    changed = running.with_changes(settings, later)
    assert (changed.num_rounds, changed.seed) == (2, 3)
    assert running.with_changes(settings, DeployConfig(task="run")) == settings


@pytest.mark.parametrize(
    "raw",
    [
        {"task": "run", "port": 1},
        {"task": "join", "name": "x", "clients": 2},
        {"task": "invite"},
        {"task": "init"},
        {"task": "up", "port": 70_000},
        {"task": "run", "model_options": {"checkpoint": "x.safetensors"}},
    ],
)
def test_settings_that_do_not_fit_the_task(raw: dict) -> None:
    with pytest.raises(SettingError):
        from_json(DeployConfig, json.dumps(raw))


def test_a_device_that_nobody_knows_cannot_leave(
    federation: Federation, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invite = invited(federation, server.address)
    device = joined(invite, tmp_path / "p" / "federation", monkeypatch)
    authority = (federation.path / CA_CERTIFICATE).read_text()
    key = device.identity().public.hex()
    with pytest.raises(SettingError, match="signature"):
        wire.ask(server.address, authority, "/pchmr/leave", {"key": key, "proof": "ab" * 64})
    claim = wire.claim_of("", federation.authority)
    proof = device.identity().sign(wire.LEAVE_PURPOSE, claim).hex()
    wire.ask(server.address, authority, "/pchmr/leave", {"key": key, "proof": proof})
    assert federation.devices[0].has_left and server.nodes.keys == [b""]
    with pytest.raises(SettingError, match="does not know this device's key"):
        wire.ask(server.address, authority, "/pchmr/leave", {"key": key, "proof": proof})


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff", b'{"token": 1}', b'{"token": "a", "node_key": "b", "keys": []}'],
)
def test_nonsense_at_the_enrollment_is_a_code(federation: Federation, body: bytes) -> None:
    said = Enrollment(federation).answer("/pchmr/enroll", body, Nodes())
    assert said.status in (400, 403) and set(json.loads(said.body)) == {"code"}
    assert Enrollment(federation).answer("/pchmr/x", b"", Nodes()).status == 403


def test_about_a_device_survives_the_disk(tmp_path: Path) -> None:
    folder = DeviceFolder.create(tmp_path / "d")
    about = AboutDevice(address="a:1", authority="00", pseudonym="p", data="/d", clients=(4, 5))
    folder.pending_keys(2)
    folder.settle(about)
    assert DeviceFolder.open(folder.path).about == about
    assert folder.identity().public and os.listdir(folder.path / "secure")
    folder.kept(1, 4).save(4, 1, {"control": np.zeros(3, dtype=np.float32)})
    assert set(folder.kept(1, 4).load(4, 2)) == {"control"} and not folder.kept(2, 4).load(4, 2)
    assert not list(folder.path.rglob("*.safetensors"))


def test_down_and_withdraw_leave_no_secret(tmp_path: Path) -> None:
    folder = DeviceFolder.create(tmp_path / "d")
    (tmp_path / "people").mkdir()
    people = str(tmp_path / "people")
    nobody = f"127.0.0.1:{processes.free_port()}"
    folder.pending_keys(1)
    folder.settle(
        AboutDevice(address=nobody, authority="00", pseudonym="p", data=people, clients=(0,))
    )
    write_bytes(folder.path / "authority.crt", b"")
    left = folder.path / "secure" / "client_000000.state"
    left.write_bytes(b"of a round that was given up")
    down(DeployConfig(task="down", name=folder.path))
    assert not left.exists()
    with open(folder.path / "secure" / "client_000000.key", "rb") as key:
        before = key.read()
        withdraw(DeployConfig(task="withdraw", name=folder.path))
        key.seek(0)
        assert key.read() != before
    assert not folder.path.exists()
