"""Flower's SuperLink with what Flower 1.41 lacks: signatures, an operator, a way to enroll.

Four things are added from outside, tried once at import so that another version of Flower says so
in one line: bundles get the signatures that the operator made; routes of this package (`/pchmr/`)
are answered; the control routes need the operator's token, since Flower asks nobody who submits
code; the routes of apps answer this machine alone. Runs that a killed server left unfinished are
stopped before anybody is served, so that no device works for a run that is over.
"""

import ipaddress
import logging
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pchmr.federated.flower.api import OPERATOR_HEADER, FlowerVersionError

try:
    from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
    from flwr.server.superlink.linkstate import LinkState
    from flwr.supercore.fab import Fab
    from flwr.superlink import main as superlink_main
    from flwr.superlink.cli.flower_superlink import flower_superlink
    from flwr.superlink.servicer.control import control_handlers
    from starlette.concurrency import run_in_threadpool

    assert callable(superlink_main.create_app) and control_handlers.Fab is Fab
except Exception as error:
    raise FlowerVersionError(error) from error

OWN_ROUTES, FLEET_ROUTES, CONTROL_ROUTES = "/pchmr/", "/v1/fleet/", "/v1/control/"
CLOSED_ROUTES = ("/v1/fleet/register-node",)  # a device registers by an invite alone
MOST_BODY = 1 << 18
HEARTBEAT_SECONDS = 30.0
DATABASE_MODE = 0o077
Call = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """What a route of this package says."""

    status: int
    body: bytes


class Nodes:
    """The register of SuperNodes."""

    def __init__(self, state: Callable[[], LinkState]) -> None:
        self._state = state

    def register(self, public_key: bytes) -> int:
        """Lets a node in; its id.

        Raises:
            ValueError: The key is in use.
        """
        return self._state().create_node(
            NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key, HEARTBEAT_SECONDS
        )

    def remove(self, node_id: int) -> None:
        """Lets a node in no longer."""
        self._state().delete_node(NOOP_FLWR_AID, node_id)


@dataclass(frozen=True)
class Hooks:
    """What a federation adds to the server.

    Attributes:
        token: Of the operator.
        signatures: By a bundle's digest.
        answer: Takes path, body and the register of nodes.
    """

    token: str
    signatures: Callable[[str], dict[str, str]]
    answer: Callable[[str, bytes, Nodes], Answer]


@dataclass
class Door:
    """Stands before the server's routes and lets each caller to its own."""

    app: Call
    hooks: Hooks
    nodes: Nodes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers, refuses or passes on a request."""
        path = scope.get("path", "")
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif path.startswith(OWN_ROUTES):
            await self._own(path, receive, send)
        elif self._may_pass(path, scope):
            await self.app(scope, receive, send)
        else:
            await _say(send, Answer(403, b'{"code": "not_for_you"}'))

    def _may_pass(self, path: str, scope: Any) -> bool:
        if path.startswith(FLEET_ROUTES):
            return path not in CLOSED_ROUTES
        if path.startswith(CONTROL_ROUTES):
            shown = dict(scope["headers"]).get(OPERATOR_HEADER.encode(), b"")
            return secrets.compare_digest(shown, self.hooks.token.encode())
        client = scope.get("client")
        return bool(client) and _is_this_machine(client[0], scope.get("server"))

    async def _own(self, path: str, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more and len(body) <= MOST_BODY:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        if len(body) > MOST_BODY:
            await _say(send, Answer(413, b'{"code": "too_long"}'))
            return
        await _say(send, await run_in_threadpool(self.hooks.answer, path, body, self.nodes))


def _is_this_machine(client: str, server: Sequence[Any] | None) -> bool:
    """Whether a caller's address is loopback, or the very address that it called."""
    return ipaddress.ip_address(client).is_loopback or bool(server and server[0] == client)


async def _say(send: Any, answer: Answer) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def serve(arguments: Sequence[str], hooks: Hooks) -> None:
    """Runs `flower-superlink` with these arguments and the hooks until it is stopped."""
    os.umask(DATABASE_MODE)
    sys.argv = ["flower-superlink", *arguments]
    create = superlink_main.create_app

    def create_app(*given: Any, **named: Any) -> Any:
        made = create(*given, **named)
        state = made.state.linkstate_factory.state
        _stop_left_over(state())
        made.add_middleware(partial(Door, hooks=hooks, nodes=Nodes(state)))
        return made

    superlink_main.create_app = create_app
    logging.getLogger("uvicorn.access").addFilter(lambda record: False)  # no addresses of devices
    control_handlers.Fab = partial(_signed, hooks)  # type: ignore[assignment, misc]
    flower_superlink()


def _signed(hooks: Hooks, digest: str, content: bytes, known: dict[str, str]) -> Fab:
    return Fab(digest, content, hooks.signatures(digest) or known)


def _stop_left_over(state: LinkState) -> None:
    """Stops runs whose server app went with the server."""
    for run in state.get_run_info():
        if run.status.status != "finished":
            state.stop_run(run.run_id)
