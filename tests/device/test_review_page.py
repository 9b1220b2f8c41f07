"""The review page in a real browser, by keyboard alone, and what training makes of it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chromium import browsing, need_chromium, read_traffic, state, wait_for

from pchmr.annotate.labels import AUDIT
from pchmr.bench.live.labeled import write_labels
from pchmr.body import BodyModel
from pchmr.cli import main
from pchmr.config import ReviewConfig
from pchmr.data.labels import LabeledPictures
from pchmr.device.bundles import PagesError, page_files
from pchmr.device.local_server import LocalServer
from pchmr.device.review import SCRIPTS, open_desk, site_of

pytestmark = pytest.mark.browser
COUNT = 12


@pytest.fixture
def server(tmp_path: Path, body: BodyModel) -> Iterator[LocalServer]:
    need_chromium()
    try:
        files = page_files("review", SCRIPTS)
    except PagesError as error:
        pytest.skip(str(error))
    labels = write_labels(tmp_path, body, COUNT).path
    server = LocalServer(site_of(open_desk(ReviewConfig(labels=labels)), files))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def press(page, *keys: str) -> None:  # type: ignore[no-untyped-def]
    """Keys one after the other, each waited for where it does something."""
    for key in keys:
        done = state(page)["done"]
        page.keyboard.press(key)
        if key in "arsfu":
            wait_for(page, f"window.pchmr.state.done > {done}")
            wait_for(page, "window.pchmr.state.status !== 'opening'")


def test_frames_are_judged_and_refitted_by_keyboard_alone(
    server: LocalServer, tmp_path: Path, body: BodyModel
) -> None:
    folder = tmp_path / "labels"
    with browsing(tmp_path) as page:
        page.goto(server.address)
        wait_for(page, "window.pchmr?.state.status === 'ready'")
        press(page, "a", "a", "a", "a", "r", "r", "r")
        for _ in range(3):
            done = state(page)["done"]
            page.keyboard.press("k")
            page.keyboard.press("Shift+ArrowRight")
            page.keyboard.press("ArrowUp")
            wait_for(page, f"window.pchmr.state.done > {done}")
            press(page, "a")
        page.screenshot(path=tmp_path / "review.png")
        press(page, "s", "u", "a", "u")
        assert page.inner_text("#verdict").startswith("review")
        seconds = state(page)["seconds"]
    lines = [json.loads(line) for line in (folder / AUDIT).read_text().splitlines()]
    actions = [line["action"] for line in lines]
    assert [actions.count(name) for name in ("accepted", "rejected", "drag", "swap")] == [
        8,
        3,
        3,
        1,
    ]
    assert actions[-4:] == ["swap", "undo", "accepted", "undo"]
    assert seconds < 30  # not a measurement: a page that hangs
    parts = [LabeledPictures(folder, s, body=body, image_size=32) for s in ("train", "test")]
    assert sum(map(len, parts)) == 7
    command = ["train", "--data", str(folder), "--num-epochs", "1", "--image-size", "64"]
    assert main([*command, "--output", str(tmp_path / "run"), "--batch-size", "4"]) == 0
    traffic = read_traffic(tmp_path / "net.json")
    origin = server.origins[0]
    wrong = [one for one in traffic.beyond(origin) if one[:2] != ("POST", f"{server.address}act")]
    assert not wrong and not traffic.far_sockets(origin)
    refused = [line for line in server.site.log if not line.endswith(" 200")]
    assert not refused


def chosen_place(page) -> float:  # type: ignore[no-untyped-def]
    return float(page.get_attribute("#keypoints .chosen", "cx"))


def audit(folder: Path) -> list[dict]:
    path = folder / "labels" / AUDIT
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def actions(folder: Path) -> list[str]:
    return [line["action"] for line in audit(folder)]


def waited(page, done: int) -> None:  # type: ignore[no-untyped-def]
    wait_for(page, f"window.pchmr.state.done >= {done}")
    assert state(page)["done"] == done


@pytest.fixture
def desk(server: LocalServer) -> "SlowDesk":
    slow = SlowDesk(server.site.act["act"])
    server.site.act["act"] = slow  # type: ignore[index]
    return slow


class SlowDesk:
    """A desk that answers when it is let, and refuses everything where it is told to."""

    def __init__(self, act: Callable[[dict], dict]) -> None:
        self.act, self.asked, self.refuses = act, 0, False
        self.free = threading.Event()

    def __call__(self, said: dict) -> dict:
        self.asked += 1
        assert self.free.wait(60)
        return {"refused": "no room"} if self.refuses else self.act(said)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Until the end, nothing is answered."""
        self.free.clear()
        yield
        self.free.set()


def test_fast_hands_lose_and_invent_nothing(
    server: LocalServer, desk: SlowDesk, tmp_path: Path
) -> None:
    """Corrections go before verdicts, a held key decides once, and answers overwrite no move."""
    with browsing(tmp_path) as page:
        page.goto(server.address)
        wait_for(page, "window.pchmr?.state.status === 'ready'")
        with desk.busy():
            for key in ("k", "Shift+ArrowRight", "a"):
                page.keyboard.press(key)
        waited(page, 2)
        assert actions(tmp_path) == ["drag", "accepted"]
        assert len({line["clip"] for line in audit(tmp_path)}) == 1

        with desk.busy():
            for _ in range(5):
                page.keyboard.down("a")
            page.keyboard.up("a")
            page.evaluate(TWICE)
        waited(page, 3)
        assert actions(tmp_path)[2:] == ["accepted"]

        check_moves(page, desk, tmp_path)
        row = state(page)["row"]
        with desk.busy():
            page.keyboard.press("ArrowRight")
            page.keyboard.press("n")
        waited(page, 6)
        wait_for(page, f"window.pchmr.state.drawn === {row + 1}")
        assert state(page)["row"] == row + 1
        assert actions(tmp_path)[3:] == ["drag"] * 3

        desk.refuses = True
        page.keyboard.press("k")
        start = chosen_place(page)
        with desk.busy():
            for key in ("ArrowRight", "a"):
                page.keyboard.press(key)
        waited(page, 8)
        assert "no room" in page.inner_text("#status") and chosen_place(page) == start
        desk.refuses = False

        page.focus("#opacity")
        page.keyboard.press("a")
        waited(page, 9)
        page.click("#frames li:nth-child(7) button")
        wait_for(page, "window.pchmr.state.drawn === 6")
        press(page, "a")
        assert page.evaluate("document.activeElement.textContent").startswith("photo-06")
    assert actions(tmp_path)[6:] == ["accepted", "accepted"]


def check_moves(page, desk: SlowDesk, folder: Path) -> None:  # type: ignore[no-untyped-def]
    """A move that is made while another is refitted stays, and is refitted next."""
    page.keyboard.press("k")
    start, asked = chosen_place(page), desk.asked
    with desk.busy():
        page.keyboard.press("ArrowRight")
        while desk.asked == asked:
            page.wait_for_timeout(50)
        page.keyboard.press("ArrowRight")
    wait_for(page, "window.pchmr.state.done >= 4")
    assert chosen_place(page) == pytest.approx(start + 4)
    waited(page, 5)
    assert audit(folder)[-1]["to"][0] == pytest.approx(start + 4)
    assert chosen_place(page) == pytest.approx(start + 4)


TWICE = """for (let k = 0; k < 2; k++) {
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
}"""


def test_another_page_cannot_write(server: LocalServer, tmp_path: Path) -> None:
    """Neither with the token, from another origin, nor without it."""
    with browsing(tmp_path) as page:
        page.goto("data:text/html,<title>foreign</title>")
        address = server.address
        for where in (address, f"{server.origins[0]}/"):
            page.evaluate(
                """async (where) => {
                  const body = JSON.stringify({row: 0, action: "accept"});
                  const sent = {method: "POST", mode: "no-cors", body};
                  await fetch(`${where}act`, sent).catch(() => 0);
                }""",
                where,
            )
    assert not (tmp_path / "labels" / AUDIT).exists()
