"""The review page in a real browser, by keyboard alone, and what training makes of it."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import browsing, need_chromium, read_traffic, state, wait_for
from labeled import write_labels

from pchmr.annotate.labels import AUDIT
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
    assert not wrong and not traffic.far_sockets
    refused = [line for line in server.site.log if not line.endswith(" 200")]
    assert not refused


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
