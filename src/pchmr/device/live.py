"""`pchmr live`: a page on this machine whose tab runs the network, or the same in Python.

The server hands out the page, the scripts, the model and the body, and takes nothing. What can be
told before a browser is open, a model of another version, stands on the page too.
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec

from pchmr.annotate.deposer import Annotator
from pchmr.body import BodyModel, load_body
from pchmr.config import LiveConfig
from pchmr.device.body_arrays import body_bytes
from pchmr.device.bundles import page_files
from pchmr.device.chosen import Chosen, ModelRefused, chosen_model
from pchmr.device.local_server import Content, LocalServer, Site
from pchmr.perception.fetched import DETECTOR, LANDMARKS, missed, read_pinned
from pchmr.progress import console, say

RUNTIME = tuple(
    f"ort-wasm-simd-threaded{kind}.{ending}"
    for kind in ("", ".asyncify")
    for ending in ("mjs", "wasm")
)
SCRIPTS = ("live.js", "painter.js", "worker.js", "worker-webgpu.js", *RUNTIME)
PRIOR = "blazepose"


def run(config: LiveConfig) -> None:
    """Serves the page until Ctrl-C, or reads a camera or file in Python.

    Raises:
        SettingError: A setting that cannot be used, or a port that is taken.
        PagesError: The scripts were not built.
    """
    if config.native:
        from pchmr.device.native import watch

        watch(config)
        return
    files = page_files("live", SCRIPTS)  # told before networks are loaded
    with LocalServer(Site(files.get), config.port) as server:
        with console.status("preparing model and body"):
            files.update(contents(config))
        serve(server, "the page asks for nothing more once it is ready")


def serve(server: LocalServer, words: str) -> None:
    """Answers until Ctrl-C."""
    told = f"open {server.address} in a browser on this machine; {words}; Ctrl-C ends it"
    print(told, flush=True)  # programs that start a page wait for its address
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        say("closed")


@dataclass(frozen=True, kw_only=True)
class About:
    """What the page says of what it runs; `refusal` is in its place where nothing can run."""

    model: str = "–"
    form: str = "–"
    sha256: str = "–"
    version: str = "–"
    cost: str = "–"
    image_size: int = 0
    landmarks: str = "–"
    has_landmarks: bool = False
    refusal: str = ""


def contents(config: LiveConfig) -> dict[str, Content]:
    """Model, body and landmark networks, by their addresses."""
    body = load_body(config.model_options.body)
    try:
        chosen = chosen_model(config, body)
    except ModelRefused as error:
        say(str(error))
        return {"live.json": _json(About(refusal=_sentence(str(error))))}
    files = {
        "model.bin": Content(chosen.path, "bin"),
        "body.bin": Content(body_bytes(Annotator(body)), "bin"),
    }
    landmarks, words = landmark_networks(body)
    files.update(landmarks)
    files["live.json"] = _json(_about(chosen, bool(landmarks), words))
    return files


def _about(chosen: Chosen, has_landmarks: bool, words: str) -> About:
    return About(
        model=chosen.name,
        form=chosen.form,
        sha256=chosen.sha256,
        version=chosen.exported_by,
        cost=chosen.cost,
        image_size=chosen.image_size,
        landmarks=words,
        has_landmarks=has_landmarks,
    )


def landmark_networks(body: BodyModel) -> tuple[dict[str, Content], str]:
    """The photo-trained networks as ONNX where they are at hand, and a line on them."""
    note = missed(PRIOR)
    if note:
        say(note)
        return {}, "not installed: the mesh is the network's alone, and of photos it has seen none"
    if find_spec("onnx") is None:
        return {}, "not usable here: pip install 'pchmr[export]'"
    from pchmr.perception.blazepose.onnx_runner import onnx_model
    from pchmr.perception.blazepose.tflite import read_network

    named = {"detector.bin": DETECTOR, "landmarks.bin": LANDMARKS}
    return {
        address: Content(
            onnx_model(read_network(read_pinned(PRIOR, file))).SerializeToString(), "bin"
        )
        for address, file in named.items()
    }, f"{PRIOR}: the mesh is refitted to them in every frame"


def _json(about: About) -> Content:
    return Content(json.dumps(vars(about)).encode(), "json")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
