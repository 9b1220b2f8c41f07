"""The pages' server: what it hands out, and everything else it refuses."""

import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from pchmr.config import SettingError
from pchmr.device.local_server import HEADERS, MOST_BODY, Content, LocalServer, Site


def started(site: Site) -> LocalServer:
    server = LocalServer(site)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture
def reader() -> Iterator[LocalServer]:
    site = Site.of_table({"": Content(b"<p>page", "html"), "model.bin": Content(b"12", "bin")})
    server = started(site)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def writer() -> Iterator[LocalServer]:
    kept: list[object] = []

    def act(said: dict[str, object]) -> dict[str, object]:
        kept.append(said)
        return {"kept": len(kept)}

    server = started(Site.with_writes({"": Content(b"<p>page", "html")}.get, {"act": act}))
    yield server
    server.shutdown()
    server.server_close()


def asked(server: LocalServer, raw: bytes) -> bytes:
    """What comes back over a bare socket."""
    with socket.create_connection(server.server_address[:2], timeout=10) as line:
        line.sendall(raw)
        return b"".join(iter(lambda: line.recv(65536), b""))


def request(server: LocalServer, first: str, *headers: str, body: bytes = b"") -> bytes:
    lines = (first, f"Host: 127.0.0.1:{server.server_port}", *headers, "Connection: close")
    return asked(server, "\r\n".join((*lines, "", "")).encode() + body)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_page_comes_with_every_header(reader: LocalServer) -> None:
    connection = HTTPConnection("127.0.0.1", reader.server_port, timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"<p>page")
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "Python" not in answer.headers["Server"]


HOSTILE = {
    "another host": ("GET / HTTP/1.1", "Host: evil.example"),
    "another origin": ("GET / HTTP/1.1", "Origin: http://evil.example"),
    "no origin at all": ("GET / HTTP/1.1", "Origin: null"),
    "another site": ("GET /model.bin HTTP/1.1", "Sec-Fetch-Site: cross-site"),
    "a neighbor port": ("GET /model.bin HTTP/1.1", "Sec-Fetch-Site: same-site"),
    "a write": ("POST / HTTP/1.1", "Content-Length: 2"),
    "a put": ("PUT /model.bin HTTP/1.1", "Content-Length: 2"),
    "a deletion": ("DELETE /model.bin HTTP/1.1",),
    "a head": ("HEAD / HTTP/1.1",),
    "a trace": ("TRACE / HTTP/1.1",),
    "a preflight": ("OPTIONS / HTTP/1.1", "Access-Control-Request-Method: POST"),
    "a tunnel": ("CONNECT evil.example:443 HTTP/1.1",),
    "another scheme": ("GET http://evil.example/ HTTP/1.1",),
    "a query": ("GET /?pixels=1 HTTP/1.1",),
    "a folder above": ("GET /../../etc/passwd HTTP/1.1",),
    "a folder above, hidden": ("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1",),
    "a file of the package": ("GET /live.py HTTP/1.1",),
    "two slashes": ("GET //model.bin HTTP/1.1",),
    "a body": ("GET / HTTP/1.1", "Content-Length: 1000000000"),
    "a body in chunks": ("GET / HTTP/1.1", "Transfer-Encoding: chunked"),
    "a socket": ("GET /socket HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"),
    "a long address": (f"GET /{'a' * 70_000} HTTP/1.1",),
    "long headers": ("GET / HTTP/1.1", *(f"X-{n}: {'a' * 4000}" for n in range(20))),
    "no method": ("/ HTTP/1.1",),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_refused(reader: LocalServer, name: str) -> None:
    answer = request(reader, *HOSTILE[name])
    assert 400 <= status(answer) < 500
    assert b"page" not in answer.partition(b"\r\n\r\n")[2].replace(b"this page is only read", b"")
    assert b"Access-Control-Allow" not in answer and b"Content-Security-Policy" in answer


def test_two_hosts_or_none_are_refused(reader: LocalServer) -> None:
    assert status(asked(reader, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")) == 421
    assert status(asked(reader, b"GET / HTTP/1.0\r\n\r\n")) == 421
    mine = f"Host: 127.0.0.1:{reader.server_port}"
    assert status(request(reader, "GET / HTTP/1.1", mine)) == 421


def test_nothing_is_served_beyond_loopback(reader: LocalServer) -> None:
    assert reader.server_address[0] == "127.0.0.1"


def test_a_taken_port_is_told_in_one_line(reader: LocalServer) -> None:
    with pytest.raises(SettingError, match=r"--port \d+ cannot be used .*another --port"):
        LocalServer(Site.of_table({}), reader.server_port)


def act(server: LocalServer, *headers: str, body: bytes = b'{"a": 1}', root: str = "") -> int:
    own = f"Origin: http://127.0.0.1:{server.server_port}"
    lines = [own, "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines = [line for line in lines if line.split(":")[0] not in {h.split(":")[0] for h in headers}]
    told = [header for header in headers if not header.endswith("-")]
    first = f"POST {root or server.site.root}act HTTP/1.1"
    return status(request(server, first, *lines, *told, body=body))


def test_a_write_needs_token_origin_and_kind(writer: LocalServer) -> None:
    assert act(writer) == 200
    assert act(writer, root="/") == 403
    assert act(writer, root=f"/{'x' * len(writer.site.token)}/") == 403
    assert act(writer, "Origin:-") == 403
    assert act(writer, "Origin: http://127.0.0.1:1") == 403
    assert act(writer, "Sec-Fetch-Site: cross-site") == 403
    assert act(writer, "Content-Type: text/plain") == 415
    assert act(writer, "Content-Type: multipart/form-data; boundary=x") == 415
    assert act(writer, "Content-Length: 1000000000") == 413
    assert act(writer, "Content-Length: -1") == 411
    assert act(writer, "Content-Length:-") == 411
    assert act(writer, body=b" " * (MOST_BODY + 1)) == 413
    assert act(writer, body=b"[" * 5000) == 400
    assert act(writer, body=b"[1]") == 400
    assert act(writer, body=b"\xff") == 400
    body = json.dumps({"a": "b"}).encode()
    assert act(writer, body=body) == 200


def test_a_fault_is_answered_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> dict[str, object]:
        raise RuntimeError("a fault of ours")

    content = Content(lambda: 1 // 0, "bin")  # type: ignore[arg-type, return-value]
    server = started(Site.with_writes({"x": content}.get, {"act": broken}))
    assert act(server) == 500
    assert status(request(server, f"GET {server.site.root}x HTTP/1.1")) == 500
    server.shutdown()
    server.server_close()
    said = capsys.readouterr().err
    assert "RuntimeError: a fault of ours" in said and "ZeroDivisionError" in said


def test_every_address_of_a_page_that_writes_holds_the_token(writer: LocalServer) -> None:
    assert status(request(writer, "GET / HTTP/1.1")) == 403
    assert status(request(writer, f"GET /{writer.site.token} HTTP/1.1")) == 403
    assert status(request(writer, f"GET {writer.site.root} HTTP/1.1")) == 200
    assert len(writer.site.token) >= 40
    assert Site.with_writes({}.get, {}).token != writer.site.token
