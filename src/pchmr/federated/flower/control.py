"""The operator's side of a running SuperLink: start a run, stop it, ask how it ended."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx

from pchmr.config import SettingError
from pchmr.federated.flower.api import OPERATOR_HEADER  # telemetry off before flwr

from flwr.common.serde import fab_to_proto, user_config_to_proto  # isort: skip
from flwr.proto import control_pb2 as messages  # isort: skip
from flwr.supercore.control import ControlHttpClient  # isort: skip
from flwr.supercore.fab import Fab  # isort: skip

ENDED = "finished"
COMPLETED = "completed"
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class RunState:
    """How a run stands in the server's own record.

    Attributes:
        status: pending, starting, running or finished.
        ending: completed, failed or stopped once it is finished.
        details: Why it failed.
    """

    status: str
    ending: str
    details: str

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.status == ENDED


class _Operator:
    """Shows the operator's token with every request."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept(self, context, call_next) -> httpx.Response:
        """Adds the token."""
        context.request.headers[OPERATOR_HEADER] = self._token
        return call_next(context)


class Control:
    """A connection to the control routes.

    Args:
        address: host:port.
        authority: File of the certificate that the server's is signed with.
        token: Of the operator.
    """

    def __init__(self, address: str, authority: Path, token: str) -> None:
        self._client = ControlHttpClient.from_server_address(
            server_address=address,
            insecure=False,
            root_certificates=authority.read_bytes(),
            interceptors=[_Operator(token)],
        )

    def __enter__(self) -> "Control":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        if isinstance(error, httpx.HTTPError):
            raise SettingError(f"the server does not answer ({_reason(error)})") from error

    def start(self, bundle: bytes, settings: dict[str, str | bool]) -> int:
        """Submits a bundle; the run's number."""
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        request = messages.StartRunRequest(
            fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(settings))
        )
        return int(self._client.StartRun(request).run_id)

    def stop(self, run_id: int) -> None:
        """Ends a run."""
        self._client.StopRun(messages.StopRunRequest(run_id=run_id))

    def state(self, run_id: int) -> RunState:
        """How a run stands."""
        found = self._client.ListRuns(messages.ListRunsRequest(run_id=run_id)).run_dict[run_id]
        return RunState(found.status.status, found.status.sub_status, found.status.details)

    def wait(self, run_id: int) -> RunState:
        """How a run stands once it is over."""
        while not (state := self.state(run_id)).is_over:
            time.sleep(POLL_SECONDS)
        return state

    def online(self) -> set[int]:
        """Ids of the nodes that can be reached now."""
        found = self._client.ListNodes(messages.ListNodesRequest()).nodes_info
        return {node.node_id for node in found if node.status == "online"}


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"it says {error.response.status_code}"
    return type(error).__name__
