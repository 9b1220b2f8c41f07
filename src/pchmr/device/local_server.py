"""A server for one person's own browser: loopback only, fixed addresses, nothing that is not asked.

Every answer carries the headers that keep a page to itself. What a page may fetch is a table of
addresses made before it starts; where it may also write, every request carries the launch's token
in its address, and a write comes from the page's own origin. It knows no page and no label.
"""

import json
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pchmr.config import SettingError
from pchmr.progress import say

HOST = "127.0.0.1"
OWN_NAMES = (HOST, "localhost")
SECONDS = 20  # that a request may take to arrive
MOST_CONNECTIONS = 64
MOST_HEADERS = 16_384  # bytes
MOST_BODY = 65_536  # bytes of a write
CHUNK, MOST_DRAINED, DRAIN_SECONDS = 1 << 16, 1 << 20, 0.5
CSP = (
    "default-src 'self'; connect-src 'self'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: mediastream:; "
    "worker-src 'self' blob:; object-src 'none'; frame-src 'none'; frame-ancestors 'none'; "
    "form-action 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
MIME = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "wasm": "application/wasm",
    "json": "application/json",
    "bin": "application/octet-stream",
    "jpg": "image/jpeg",
    "txt": "text/plain; charset=utf-8",
}


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Content:
    """What an address holds: bytes, a file, or a function that makes bytes when it is asked."""

    source: bytes | Path | Callable[[], bytes]
    kind: str

    def read(self) -> bytes:
        """The bytes."""
        if isinstance(self.source, bytes):
            return self.source
        return self.source.read_bytes() if isinstance(self.source, Path) else self.source()


Find = Callable[[str], Content | None]
Act = Callable[[dict[str, object]], dict[str, object]]


@dataclass
class Site:
    """What a server hands out.

    Attributes:
        find: Content of an address without its leading slash (and token); None where there is none.
        act: Does what a write asks for, by its name; without any, all but GET is refused.
        token: Part of every address where there are writes.
        log: One line a request: method, address, status.
    """

    find: Find
    act: Mapping[str, Act] = field(default_factory=dict)
    token: str = ""
    log: list[str] = field(default_factory=list)

    @classmethod
    def of_table(cls, table: Mapping[str, Content]) -> "Site":
        """A site of fixed addresses that is only read."""
        return cls(table.get)

    @classmethod
    def with_writes(cls, find: Find, act: Mapping[str, Act]) -> "Site":
        """A site that may be written to by who knows this launch's token."""
        return cls(find, act, secrets.token_urlsafe(32))

    @property
    def root(self) -> str:
        """First part of every address."""
        return f"/{self.token}/" if self.token else "/"


def _named(error: BaseException | None) -> str:
    """Kind and words of an error, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


class LocalServer(ThreadingHTTPServer):
    """Serves a site on this machine's loopback interface."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, site: Site, port: int = 0) -> None:
        """Takes a port; 0 takes any.

        Raises:
            SettingError: The port is taken.
        """
        self.site = site
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise SettingError(
                f"--port {port} cannot be used ({getattr(error, 'strerror', None) or error}): is "
                "another page of pchmr open on it? Close that one, or give another --port "
                "(0 takes any)"
            ) from None
        self.origins = tuple(f"http://{name}:{self.server_port}" for name in OWN_NAMES)

    def server_bind(self) -> None:
        """Takes the port; one that is only cooling down is free."""
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        super().server_bind()

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"{self.origins[0]}{self.site.root}"

    def process_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """Answers in a thread, unless too many are being answered."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """Answers, and makes room again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle of an answer is no error; all else is told."""
        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError)):
            say(f"the page's server failed ({_named(error)})")


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pchmr", ""
    timeout = SECONDS

    def handle_one_request(self) -> None:
        """Reads a request line and headers, then answers by one way whatever the method is."""
        self.raw_requestline = self.rfile.readline(8193)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if len(self.raw_requestline) > 8192:
            self.requestline, self.command = "", ""
            return self._refuse(Refused(HTTPStatus.REQUEST_URI_TOO_LONG, "address too long"))
        if not self.parse_request():
            return
        try:
            self._answer()
        except Refused as refused:
            self._refuse(refused)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # a fault of ours, or of the disk
            say(f"a request of the page failed ({_named(error)})")
            self._refuse(Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "failed: see the terminal"))
        self.wfile.flush()

    def _answer(self) -> None:
        site = self.server.site
        self._check_origin()
        name = self._name(site)
        if self.command == "GET":
            self._check_no_body()
            content = site.find(name)
            if content is None:
                raise Refused(HTTPStatus.NOT_FOUND, "no such address")
            self._send(HTTPStatus.OK, content.read(), MIME[content.kind])
        elif self.command == "POST" and name in site.act:
            answer = json.dumps(site.act[name](self._body())).encode()
            self._send(HTTPStatus.OK, answer, MIME["json"])
        else:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "this page is only read")

    def _check_origin(self) -> None:
        """Refuses what another site, or another name for this machine, asks for."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or f"http://{hosts[0].lower()}" not in self.server.origins:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "unknown host")
        own = f"http://{hosts[0].lower()}"
        for origin in self.headers.get_all("Origin") or []:
            if origin != own:
                raise Refused(HTTPStatus.FORBIDDEN, "another origin")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Refused(HTTPStatus.FORBIDDEN, "another site")
        if len(bytes(self.headers)) > MOST_HEADERS:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers too large")

    def _name(self, site: Site) -> str:
        """The address below the root: plain, without query, and with the token."""
        path, root = self.requestline.split()[1], site.root  # as it came: `path` is tidied up
        if not path.startswith("/") or "?" in path or "#" in path:
            raise Refused(HTTPStatus.BAD_REQUEST, "addresses here have no query")
        known = path.encode("utf-8", "replace").startswith(root.encode())
        if not (known and secrets.compare_digest(path[: len(root)].encode(), root.encode())):
            raise Refused(HTTPStatus.FORBIDDEN, "no token of this launch")
        return path[len(root) :]

    def _check_no_body(self) -> None:
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "nothing is taken here")

    def _body(self) -> dict[str, object]:
        """What a write says: a small JSON object from the page itself."""
        if self.headers.get("Origin") not in self.server.origins:
            raise Refused(HTTPStatus.FORBIDDEN, "no origin")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "JSON is wanted")
        if self.headers.get("Transfer-Encoding"):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "no length")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "no length")
        if len(length) > 9 or int(length) > MOST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too much")
        try:
            value = json.loads(self.rfile.read(int(length)).decode("utf-8"))
        except (ValueError, RecursionError):
            raise Refused(HTTPStatus.BAD_REQUEST, "no JSON") from None
        if not isinstance(value, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "no object")
        return value

    def _refuse(self, refused: Refused) -> None:
        """Says so in a word, and ends the connection: what follows may be the refused body."""
        self.close_connection = True
        self.request_version = self.protocol_version  # HTTP/0.9 would get no headers
        self._send(refused.status, f"{refused}\n".encode(), MIME["txt"])
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self._drain()

    def _drain(self) -> None:
        """Throws away a little of what is still coming, so that the answer is not lost with it."""
        self.connection.settimeout(DRAIN_SECONDS)
        for _ in range(MOST_DRAINED // CHUNK):
            if not self.connection.recv(CHUNK):
                return

    def _send(self, status: HTTPStatus, content: bytes, mime: str) -> None:
        self.server.site.log.append(f"{self.command} {getattr(self, 'path', '')} {int(status)}")
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", mime)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses, in our words and with our headers."""
        self.command = getattr(self, "command", None) or ""
        self._refuse(Refused(HTTPStatus(code), message or "refused"))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed: addresses may hold the token."""
