"""A headless Chromium that is watched: whatever it asks of any network stands in its log.

The log is the browser's own (`--log-net-log`): requests of pages, workers and the browser itself,
their methods and bodies, and every socket that was connected, TCP or UDP.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pchmr.config import SettingError

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
"""No name resolves, so that a browser's own calls home stay calls."""
FAKE_CAMERA = "--use-fake-device-for-media-stream"
ALLOWED = "--use-fake-ui-for-media-stream"
DENIED = "--deny-permission-prompts"
PLACES = ("chromium", "chromium-browser", "google-chrome")
CURE = "apt-get install chromium"
NO_ORIGIN = "not an origin"
NAMES_PORT = ":53"
RESOLVERS = Path("/etc/resolv.conf")


def need_chromium() -> str:
    """Path of the browser.

    Raises:
        SettingError: There is none, or nothing to drive it with.
    """
    if find_spec("playwright") is None:
        raise SettingError("a browser is driven with playwright: pip install 'pchmr[dev]'")
    found = next(filter(None, map(shutil.which, PLACES)), None)
    if found is None:
        raise SettingError(f"this needs a system Chromium: {CURE}")
    return found


@dataclass(frozen=True)
class Traffic:
    """What a browser did.

    Attributes:
        requests: Method, address and whether a body went along, of what pages and workers asked
            for; what the browser asks for itself has no origin and is left out, but for addresses
            on this machine.
        sockets: Addresses that TCP sockets were connected to.
        datagrams: Addresses that UDP packets went to; questions for names to the machine's own
            resolver are left out, none of which is answered.
    """

    requests: list[tuple[str, str, bool]]
    sockets: set[str]
    datagrams: set[str]

    def beyond(self, origin: str) -> list[tuple[str, str, bool]]:
        """Requests that left the origin, carried a body, a query, or were no GET."""
        return [
            (method, url, has_body)
            for method, url, has_body in self.requests
            if method != "GET" or has_body or urlsplit(url).query
            or f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" != origin
        ]  # fmt: skip

    def far_sockets(self, origin: str) -> set[str]:
        """Sockets to anything but the origin's own port, on this machine or beyond it."""
        return {one for one in self.sockets | self.datagrams if one != urlsplit(origin).netloc}


def read_traffic(path: Path) -> Traffic:
    """The log of a browser that has ended."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        log = json.loads(text)
    except ValueError:  # the browser was ended in the middle of a line
        log = json.loads(text.rstrip().rstrip(",") + "]}")
    kinds = {number: name for name, number in log["constants"]["logEventTypes"].items()}
    requests, connected, sockets, datagrams = {}, {}, set(), set()
    asked_for_names = resolvers()
    for event in log["events"]:
        kind, about = kinds[event["type"]], event.get("params", {})
        if kind == "URL_REQUEST_START_JOB" and about.get("url", "").startswith(("http", "ws")):
            has_body = "upload_id" in about
            of_browser = about.get("initiator", NO_ORIGIN) == NO_ORIGIN
            if not of_browser or urlsplit(about["url"]).hostname == "127.0.0.1":
                key = event["source"]["id"], about["url"]
                requests[key] = (about["method"], about["url"], has_body)
        elif kind == "TCP_CONNECT_ATTEMPT" and "address" in about:
            sockets.add(about["address"])
        elif kind == "UDP_CONNECT" and "address" in about:
            connected[event["source"]["id"]] = about["address"]
        elif kind == "UDP_BYTES_SENT":
            where = about.get("address") or connected.get(event["source"]["id"], "unknown")
            datagrams |= set() if where in asked_for_names else {where}
    return Traffic(list(requests.values()), sockets, datagrams)


def resolvers() -> set[str]:
    """Addresses at which this machine asks for names."""
    try:
        lines = RESOLVERS.read_text().splitlines()
    except OSError:
        return set()
    hosts = [line.split()[1] for line in lines if line.startswith("nameserver ")]
    return {f"[{host}]{NAMES_PORT}" if ":" in host else f"{host}{NAMES_PORT}" for host in hosts}


@contextmanager
def browsing(folder: Path, *flags: str) -> Iterator[Any]:
    """A page of a fresh browser; its log is whole when the context ends."""
    from playwright.sync_api import sync_playwright

    log = f"--log-net-log={folder / 'net.json'}"
    with sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=need_chromium(),
            args=[*FLAGS, log, *flags],
            ignore_default_args=["--headless"],
            viewport={"width": 1200, "height": 900},
            accept_downloads=True,
        )
        page = context.pages[0]
        page.set_default_timeout(240_000)
        yield page
        context.close()


def wait_for(page, words: str, seconds: float = 240) -> None:  # type: ignore[no-untyped-def]
    """Waits until an expression of the page is true; plain `wait_for_function` needs eval."""
    for _ in range(int(seconds / 0.2)):
        if page.evaluate(words):
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"never true: {words}; {state(page)}")


def state(page) -> dict:  # type: ignore[no-untyped-def]
    """What the page says of itself, without what is large."""
    return json.loads(
        page.evaluate(
            "JSON.stringify(window.pchmr?.state ?? {}, (k, v) => "
            "k && typeof v === 'object' && k !== 'timings' ? undefined : v)"
        )
    )
