"""`pchmr deploy status`: rounds, devices by pseudonym, failures by reason code, bytes, epsilon.

Nothing about people: no names, counts of samples, losses of one device or paths of devices.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pchmr.config import DeployConfig, SettingError
from pchmr.deploy import processes
from pchmr.deploy.certificates import CA_CERTIFICATE
from pchmr.deploy.federation import Federation, find_federation, roster_of
from pchmr.deploy.operator import near_address
from pchmr.deploy.released import took_part
from pchmr.door import Json
from pchmr.federated.flower.control import Control
from pchmr.progress import say
from pchmr.runs import SUMMARY, RunFolder

MB = 1e6


def round_line(row: dict[str, Any]) -> str:
    """A round in one line."""
    reasons = Counter(found["reason"] for found in row["quarantined"])
    said = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    loss = row["losses"]["total"]
    parts = [
        f"round {row['round']}: {len(took_part(row))} of {len(row['cohort'])} clients",
        "" if loss is None else f"loss {loss:.4f}",
        f"up {row['bytes_up'] / MB:.2f} MB, down {row['bytes_down'] / MB:.2f} MB",
        f"{row['seconds']:.0f} s",
        said and f"left out: {said}",
        "" if row["changed"] else "the model is unchanged",
    ]
    return "   ".join(part for part in parts if part)


@dataclass(frozen=True)
class DeviceLine:
    """A device, as an operator sees it."""

    pseudonym: str
    clients: tuple[int, ...]
    state: str
    rounds: int
    failures: dict[str, int]


def device_lines(federation: Federation, online: set[int] | None) -> list[DeviceLine]:
    """All devices, with what became of their answers over all runs."""
    rows = [row for path in federation.run_folders for row in RunFolder(path).read_rows()]
    lines = []
    for device in federation.devices:
        own = set(device.clients)
        failures = Counter(
            found["reason"]
            for row in rows
            for found in row["quarantined"]
            if found["client_id"] in own
        )
        rounds = sum(bool(own & took_part(row)) for row in rows)
        state = "left" if device.has_left else _state(device.node_id, online)
        lines.append(DeviceLine(device.pseudonym, device.clients, state, rounds, dict(failures)))
    return lines


def _state(node_id: int, online: set[int] | None) -> str:
    if online is None:
        return "unknown"
    return "online" if node_id in online else "offline"


def online_nodes(federation: Federation) -> set[int] | None:
    """Nodes that can be reached now; None where the server is down."""
    if not processes.is_running(federation.authority, federation.path, federation.live):
        return None
    near, authority = near_address(federation), federation.path / CA_CERTIFICATE
    try:
        with Control(near, authority, federation.token) as control:
            return control.online()
    except SettingError:
        return None


def report(federation: Federation) -> list[str]:
    """The whole status as lines."""
    online = online_nodes(federation)
    devices = federation.devices
    up = "down" if online is None else f"up at {federation.about.address}"
    lines = [f"server: {up}   authority {federation.authority}"]
    if devices:
        lines.append(f"roster: {roster_of(devices).fingerprint.hex()} (compare on each device)")
    for line in device_lines(federation, online):
        clients = ",".join(map(str, line.clients))
        failed = ", ".join(f"{reason} {count}" for reason, count in line.failures.items())
        lines.append(
            f"{line.pseudonym}   clients {clients}   {line.state}   {line.rounds} rounds"
            + (f"   failures: {failed}" if failed else "")
        )
    runs = [RunFolder(path) for path in federation.run_folders]
    for run in runs:
        lines += run_lines(run)
    return [*lines, *composed([run.read_json(SUMMARY) or {} for run in runs])]


def composed(summaries: list[Json]) -> list[str]:
    """What differential privacy the runs have together; nothing where one stands alone.

    Epsilons and deltas add up (Dwork et al. 2006): true of any runs over the same clients, and
    larger than need be.
    """
    known = [told for summary in summaries if (told := summary.get("differential_privacy"))]
    if len(summaries) < 2 or not known:
        return []
    if len(known) < len(summaries):
        without = len(summaries) - len(known)
        return [
            f"all runs together: no bound, {without} without differential privacy or unfinished"
        ]
    epsilon, delta = (sum(told[name] for told in known) for name in ("epsilon", "delta"))
    return [f"all runs together: epsilon {epsilon:.2f} at delta {delta:.2g} for each client"]


def run_lines(run: RunFolder) -> list[str]:
    """A run and its rounds."""
    rows, summary = run.read_rows(), run.read_json(SUMMARY)
    up, down = (sum(row[name] for row in rows) / MB for name in ("bytes_up", "bytes_down"))
    state = "finished" if summary else "not finished"
    epsilon = (summary or {}).get("epsilon")
    privacy = "no differential privacy" if epsilon is None else f"epsilon {epsilon:.2f}"
    head = (
        f"{run.path.name}: {state}, {len(rows)} rounds, up {up:.2f} MB, down {down:.2f} MB, "
        f"{privacy}"
    )
    model = [f"  model sha256 {summary['model_sha256']}"] if summary else []
    return [head, *(f"  {round_line(row)}" for row in rows), *model]


def status(config: DeployConfig) -> None:
    """Shows the status, and writes it as a page if asked to."""
    federation = find_federation(config.name or config.folder)
    lines = report(federation)
    for line in lines:
        say(line)
    if config.page:
        say(f"page: {write_page(federation, lines)}")


def write_page(federation: Federation, lines: list[str]) -> str:
    """The status as one HTML file for the operator alone, without scripts or links."""
    from html import escape

    from pchmr.runs import write_bytes

    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    body = "\n".join(map(escape, lines))
    text = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Federation</title>"
        f"<h1>Federation</h1><p>{when}</p><pre>{body}</pre></html>\n"
    )
    path = federation.path / "status.html"
    write_bytes(path, text.encode(), private=True)
    return str(path)
