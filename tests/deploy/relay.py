"""A relay between devices and a server: opens TLS with the server's key and writes along."""

import select
import socket
import ssl
import struct
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from flwr.proto.message_pb2 import Message, PushObjectRequest

RESET = struct.pack("ii", 1, 0)
ASKS_FOR_TASKS = b"POST /v1/fleet/pull-messages"
TASK = b"train"  # type of a message


class Relay:
    """Hands bytes on in both directions until it is closed; keeps what devices say.

    Of the answers that hold a task, it loses the first `to_lose` with their connections.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.said: dict[int, bytearray] = defaultdict(bytearray)
        self._folder, self._server = folder, port
        self._ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ours.load_cert_chain(folder / "server.crt", folder / "server.key")
        self._theirs = ssl.create_default_context(cafile=folder / "ca.crt")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self.to_lose, self.lost = 0, 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                raw, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(raw,), daemon=True).start()

    def _carry(self, raw: socket.socket) -> None:
        try:
            near = self._ours.wrap_socket(raw, server_side=True)
            plain = socket.create_connection(("127.0.0.1", self._server))
            far = self._theirs.wrap_socket(plain, server_hostname="localhost")
        except OSError:
            raw.close()
            return
        self._open += [near, far]
        self._pass(near, far, len(self._open))

    def _pass(self, near: ssl.SSLSocket, far: ssl.SSLSocket, number: int) -> None:
        """Both directions in one thread: an SSL socket may not be read and written by two."""
        others, asks_for_tasks = {near: far, far: near}, False
        try:
            while ready := self._ready(near, far):
                for source in ready:
                    data = self._read(source)
                    if data is None:
                        continue
                    if not data:
                        raise ConnectionError
                    if source is near:
                        self.said[number] += data
                        if data.startswith(b"POST "):  # else it is a body's, which may follow
                            asks_for_tasks = data.startswith(ASKS_FOR_TASKS)
                    elif asks_for_tasks and TASK in data and self.lost < self.to_lose:
                        self.lost += 1
                        raise ConnectionError
                    others[source].sendall(data)
        except (OSError, ValueError):
            pass
        for end in (near, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    @staticmethod
    def _read(source: ssl.SSLSocket) -> bytes | None:
        """What it says; nothing where what came is TLS's own, as a session's ticket is."""
        source.setblocking(False)
        try:
            return source.recv(1 << 16)
        except ssl.SSLWantReadError:
            return None
        finally:
            source.setblocking(True)

    @staticmethod
    def _ready(*ends: ssl.SSLSocket) -> list[ssl.SSLSocket]:
        """Those with something to read, decrypted already or on the wire."""
        return [end for end in ends if end.pending()] or select.select(ends, [], [])[0]

    def reset(self) -> None:
        """Tears every connection down at once, as a failing network does."""
        gone, self._open = self._open, []
        for end in gone:
            with suppress(OSError, ValueError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.close()

    def close(self) -> None:
        """Hands nothing on any more."""
        self._listening.close()
        self.reset()

    def requests(self) -> list[tuple[str, str, bytes]]:
        """Path, key of the device and body of all that devices asked, in order by connection."""
        return [found for said in list(self.said.values()) for found in parse(bytes(said))]


def parse(said: bytes) -> list[tuple[str, str, bytes]]:
    found = []
    while b"\r\n\r\n" in said:
        head, said = said.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        named = {name.lower(): value for name, value in headers.items()}
        length = int(named.get("content-length", 0))
        key = next((v for n, v in named.items() if "public-key" in n), "")
        found.append((first.split()[1], key, said[:length]))
        said = said[length:]
    return found


def size_but_for_the_node(body: bytes) -> int:
    """Bytes of a pushed object had its node the number 1.

    A node's number is drawn at random and written with nine or ten bytes: in the request, and in
    the message's metadata, whose length (one byte below 128, else two) may change with it.
    """
    request = PushObjectRequest.FromString(body)
    request.node.node_id = 1
    head, said = request.object_content.split(b"\0", 1)
    if head.startswith(b"Message "):
        message = Message.FromString(said)
        message.metadata.src_node_id = 1
        request.object_content = message.SerializeToString()
    return request.ByteSize()
