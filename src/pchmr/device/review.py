"""`pchmr review`: labels judged and corrected in a browser tab on this machine, the worst first.

Every action is one small write that only this launch's page can make; the label folder, its
manifest and its audit log are what `pchmr labels` and `pchmr train` read.
"""

import base64
import json
import threading
from functools import partial

from pchmr.annotate.custody import REJECTED
from pchmr.annotate.deposer import Annotator
from pchmr.annotate.labels import LabelFolder
from pchmr.annotate.prior import load_prior
from pchmr.body import load_body
from pchmr.config import ReviewConfig, SettingError, UserError
from pchmr.data.labels import ACCEPTED, MANIFEST
from pchmr.device.bundles import page_files
from pchmr.device.desk import Desk, Item
from pchmr.device.live import serve
from pchmr.device.local_server import Content, LocalServer, Site
from pchmr.progress import say
from pchmr.runs import locked

SCRIPTS = ("review.js",)
VERDICTS = {"accept": ACCEPTED, "reject": REJECTED}
FARTHEST = 20_000  # pixels of a keypoint that is dragged


def run(config: ReviewConfig) -> None:
    """Serves the page until Ctrl-C.

    Raises:
        SettingError: No labels, labels of another body, or a port that is taken.
        PagesError: The scripts were not built.
    """
    if not (config.labels / MANIFEST).is_file():
        raise SettingError(f"{config.labels} holds no {MANIFEST}: give the output of annotate")
    files = page_files("review", SCRIPTS)
    with locked(config.labels):
        desk = open_desk(config)
        with LocalServer(site_of(desk, files), config.port) as server:
            say(f"{len(desk.items)} frames to look at, the worst first")
            serve(server, "the address is for this launch alone")


def open_desk(config: ReviewConfig) -> Desk:
    """The frames of a folder, and what refits them."""
    folder = LabelFolder.open(config.labels)
    body = load_body(config.body)
    for clip, row in folder.rows.items():
        own = row.get("key", {}).get("body_sha256", body.sha256)
        if "failed" not in row and own not in (body.sha256, body.mesh_sha256):
            raise SettingError(f"labels of {clip} belong to another body: give its --body")
    desk = Desk.open(folder, Annotator(body, load_prior(config.pose_prior)))
    if not desk.items:
        raise SettingError(f"{config.labels} holds no labeled frame: run `pchmr annotate` first")
    return desk


def site_of(desk: Desk, files: dict[str, Content]) -> Site:
    """The page's addresses, and the one that is written to."""
    lock = threading.Lock()
    faces = desk.annotator.body.faces.cpu().numpy().astype("<u4").tobytes()
    files = {**files, "faces.bin": Content(faces, "bin")}

    def find(name: str) -> Content | None:
        if name in files:
            return files[name]
        if name == "frames.json":
            return Content(json_bytes({"frames": [about(item) for item in desk.items]}), "json")
        kind, _, number = name.partition("/")
        if kind not in ("label", "picture") or not _is_row(number, desk):
            return None
        with lock:
            if kind == "label":
                return Content(json_bytes(label_of(desk, int(number))), "json")
            return Content(desk.picture(int(number)), "jpg")

    def act(said: dict[str, object]) -> dict[str, object]:
        with lock:
            return answered(desk, said)

    return Site.with_writes(find, {"act": act})


def _is_row(number: str, desk: Desk) -> bool:
    return number.isascii() and number.isdecimal() and len(number) < 8 and int(number) < len(desk)


def json_bytes(value: object) -> bytes:
    """The value as JSON; what is not finite is null."""
    return json.dumps(value, allow_nan=False).encode()


def about(item: Item) -> dict[str, object]:
    """What the list says of a frame."""
    return {
        "clip": item.clip,
        "frame": item.frame,
        "status": item.status,
        "decided": item.decided,
        "error_mm": item.error_mm,
        "why": item.why,
        "calibrated": item.calibrated,
    }


def label_of(desk: Desk, row: int) -> dict[str, object]:
    """What is drawn of a frame."""
    label, (width, height) = desk.label(row), desk.size(row)
    vertices = base64.b64encode(label["vertices"][0].astype("<f4").tobytes()).decode()
    return {
        **about(desk.items[row]),
        "width": width,
        "height": height,
        "intrinsics": label["intrinsics"][0].tolist(),
        "keypoint_names": label["keypoint_names"].tolist(),
        "keypoints": [
            [float(value) if value == value else None for value in one]
            for one in label["keypoints_2d"][0]
        ],
        "vertices": vertices,
        "can_undo": desk.can_undo,
    }


def answered(desk: Desk, said: dict[str, object]) -> dict[str, object]:
    """Does what the page asks for; what cannot be done is told in its words."""
    row, action = said.get("row"), said.get("action")
    known = type(row) is int and 0 <= row < len(desk)
    if not known or not isinstance(action, str) or action not in ACTIONS:
        return {"refused": "unknown action"}
    assert isinstance(row, int)
    try:
        row = ACTIONS[action](desk, row, said)
    except UserError as error:
        return {"refused": str(error)}
    except OSError as error:
        return {"refused": f"labels cannot be written ({error.strerror or error}): make room"}
    return {"row": row, "label": label_of(desk, row), "frame": about(desk.items[row])}


def _decide(desk: Desk, row: int, said: dict[str, object], *, verdict: str) -> int:
    del said
    return desk.decide(row, verdict)


def _drag(desk: Desk, row: int, said: dict[str, object]) -> int:
    keypoint, place = said.get("keypoint"), (said.get("x"), said.get("y"))
    numbers = [v for v in place if isinstance(v, (int, float)) and abs(v) < FARTHEST]
    count = len(desk.label(row)["keypoint_names"])
    if type(keypoint) is not int or not 0 <= keypoint < count or len(numbers) != len(place):
        raise SettingError("no such keypoint or place")
    return desk.drag(row, keypoint, float(numbers[0]), float(numbers[-1]))


ACTIONS = {
    **{name: partial(_decide, verdict=verdict) for name, verdict in VERDICTS.items()},
    "swap": lambda desk, row, said: desk.swap(row),
    "refit": lambda desk, row, said: desk.refit(row),
    "drag": _drag,
    "undo": lambda desk, row, said: desk.undo(row),
}
"""What a page may ask for; each returns the row to show."""
