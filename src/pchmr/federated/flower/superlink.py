"""Flower's SuperLink with what Flower 1.41 lacks: signatures, an operator, a way to enroll.

Five things are added from outside, tried once at import so that another version of Flower says so
in one line: bundles get the signatures that the operator made; routes of this package (`/pchmr/`)
are answered; the control routes need the operator's token, since Flower asks nobody who submits
code; the routes of apps answer this machine alone; what the network lost on its way to a device is
handed out again. Runs that a killed server left unfinished are stopped before anybody is served, so
that no device works for a run that is over.
"""

import ipaddress
import logging
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from pchmr.federated.flower.api import (
    OPERATOR_HEADER,
    SERVER_NODE,
    FlowerVersionError,
    Message,
)

try:
    from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, Status
    from flwr.server.superlink.linkstate import LinkState, SqlLinkState
    from flwr.supercore.date import now
    from flwr.supercore.fab import Fab
    from flwr.supercore.state.schema.linkstate_models import MessageIns, MessageRes
    from flwr.supercore.utils import int64_to_uint64, uint64_to_int64
    from flwr.superlink import main as superlink_main
    from flwr.superlink.cli.flower_superlink import flower_superlink
    from flwr.superlink.servicer.control import control_handlers
    from sqlalchemy import select, update
    from starlette.concurrency import run_in_threadpool

    claim = SqlLinkState.get_message_ins
    assert callable(superlink_main.create_app) and control_handlers.Fab is Fab
except Exception as error:
    raise FlowerVersionError(error) from error

OWN_ROUTES, FLEET_ROUTES, CONTROL_ROUTES = "/pchmr/", "/v1/fleet/", "/v1/control/"
CLOSED_ROUTES = ("/v1/fleet/register-node",)  # a device registers by an invite alone
MOST_BODY = 1 << 18
HEARTBEAT_SECONDS = 30.0
DATABASE_MODE = 0o077
LOST_SECONDS = 10.0
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
    SqlLinkState.get_message_ins = hand_out  # type: ignore[method-assign]
    logging.getLogger("uvicorn.access").addFilter(lambda record: False)  # no addresses of devices
    control_handlers.Fab = partial(_signed, hooks)  # type: ignore[assignment, misc]
    flower_superlink()


def hand_out(
    state: SqlLinkState, node_id: int, limit: int | None, *, run_id: int | None = None
) -> list[Message]:
    """What waits for a node; if nothing does, what it was handed before and has not answered.

    Flower counts a message as delivered before it has left. A SuperNode asks for the next one when
    it holds none: what it then has not answered was lost, on the way there or with a program that
    ended. What it had fetched whole is gone from the server too, which then says so to its app.
    """
    found = claim(state, node_id, limit, run_id=run_id)
    if found or node_id == SERVER_NODE or not _take_back(state, node_id):
        return found
    return claim(state, node_id, limit, run_id=run_id)


def _take_back(state: SqlLinkState, node_id: int) -> bool:
    """Counts as not delivered what a node lost in runs that go on; whether there was anything."""
    before = (now() - timedelta(seconds=LOST_SECONDS)).isoformat()
    names = MessageRes.reply_to_message_id
    answered = select(names).where(names.is_not(None))
    handed = select(MessageIns.message_id, MessageIns.run_id).where(
        MessageIns.dst_node_id == uint64_to_int64(node_id),
        MessageIns.delivered_at != "",
        MessageIns.delivered_at < before,
        MessageIns.message_id.not_in(answered),
    )
    with state.session() as session:
        rows = session.execute(handed).all()
        found = [(name, int64_to_uint64(run)) for name, run in rows if run is not None]
    runs = state.get_run_status({run for _, run in found}) if found else {}
    lost = [name for name, run in found if run in runs and runs[run].status == Status.RUNNING]
    if lost:
        chosen = update(MessageIns).where(MessageIns.message_id.in_(lost))
        with state.session() as session:
            session.execute(chosen.values(delivered_at=""))
    return bool(lost)


def _signed(hooks: Hooks, digest: str, content: bytes, known: dict[str, str]) -> Fab:
    return Fab(digest, content, hooks.signatures(digest) or known)


def _stop_left_over(state: LinkState) -> None:
    """Stops runs whose server app went with the server."""
    for run in state.get_run_info():
        if run.status.status != "finished":
            state.stop_run(run.run_id)
