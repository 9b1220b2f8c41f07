"""`pchmr live --native`: bad sources in one line, and the exported network in place of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pchmr.body import BodyModel
from pchmr.cli import main
from pchmr.config import LiveConfig, ReviewConfig, SettingError
from pchmr.data.errors import InputError
from pchmr.device import chosen as chosen_room
from pchmr.device import graph, measured, native, runtime
from pchmr.device.chosen import ModelRefused, of_card, own_export
from pchmr.device.native import Network
from pchmr.device.runtime import OnnxModel, fastest_model
from pchmr.predict.sightings import Sightings
from pchmr.predict.watching import Watcher
from pchmr.runs import file_sha256


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["live", "7"], "with --native, it is read"),
        (["live", "--port", "70000"], "give a number from 0 to 65535"),
        (["live", "--form", "int8"], "give --export too"),
        (["live", "--native", "--seconds", "0"], "give a positive number"),
        (["live", "--native", "63"], "camera"),
        (["live", "--native", "0", "--format", "overlay"], "a camera's are not kept"),
        (["live", "--native", "gone.mp4"], "gone.mp4"),
        (["live", "--native", "notes.txt"], "is no video that is read here"),
        (["review", "nowhere"], "give the output of annotate"),
        (["review", "nowhere", "--port", "-1"], "give a number from 0 to 65535"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--output", str(tmp_path / "out")] if "--native" in arguments else []
    assert main([*arguments, *more]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_an_export_that_is_none_is_told(tmp_path: Path, body) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingError, match="holds no card"):
        of_card(tmp_path, "default", body)
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(ModelRefused, match="another version of pchmr"):
        of_card(tmp_path, "default", body)


class Stand(OnnxModel):
    """A network without a file, which answers with its crops."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.threads, self.shape = threads, (1, 3, 8, 8)

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"vertices": images + 1, "camera": images}


class Look(Watcher):
    """Stands for a watcher: nobody is ever in view."""

    def __init__(self) -> None: ...

    def see(self, image: object, moment: float, last: object) -> None: ...

    def people(self, glances: list[None]) -> list[SimpleNamespace]:
        return [SimpleNamespace(track_id=[])]


class Camera:
    """Stands for a container whose device is pulled out after two frames."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def decode(self, video: int) -> Iterator[SimpleNamespace]:
        for _ in range(2):
            yield SimpleNamespace(to_ndarray=lambda format: np.zeros((2, 2, 3), np.uint8))
        raise OSError(19, "No such device")


def test_what_was_seen_outlives_a_camera_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = object.__new__(Sightings)
    monkeypatch.setattr(native, "sighting", lambda *_: one)
    monkeypatch.setattr(native, "_tell_speed", lambda *_: None)
    monkeypatch.setattr(Sightings, "frame", [], raising=False)
    seen = native._watched(native._decoded(Camera()), Look(), None)
    assert len(seen) == 2
    said = capsys.readouterr().err
    assert "the camera stopped (No such device): what was seen until then is written" in said


def test_a_camera_that_never_gave_a_frame_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "decode", lambda self, video: map(_fail, [1]))
    with pytest.raises(InputError, match="the camera stopped"):
        native._watched(native._decoded(Camera()), Look(), None)


def _fail(frame: int) -> None:
    raise OSError(5, "Input/output error")


CARD = {
    "default": "int8",
    "started_from": {"kind": "shipped"},
    "environment": {"packages": {"pchmr": "0.1.7"}},
    "outputs": ["camera", "vertices"],
    "model": {"model": "fastmetro_xs", "image_size": 128},
}


def card_of(folder: Path, body: BodyModel, **int8: float) -> None:
    """An export whose files say nothing, and its card."""
    forms: dict[str, dict] = {"fp32": {"max_vertex_difference_m": 1e-6}, "int8": int8}
    for name, form in forms.items():
        (folder / f"{name}.onnx").write_text(name)
        form |= {"file": f"{name}.onnx", "sha256": file_sha256(folder / f"{name}.onnx")}
        form.setdefault("cost_mm", 0.1)
    card = {**CARD, "variants": forms, "body_sha256": body.sha256}
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("int8", "form"),
    [
        ({"joints_moved_p95_mm": 9.0}, "int8"),
        ({}, "fp32"),
        ({"joints_moved_p95_mm": 19.0}, "fp32"),
        ({"joints_moved_p95_mm": 9.0, "cost_mm": 1.8}, "fp32"),
    ],
)
def test_an_old_cards_default_is_held_against_todays_rule(
    int8: dict[str, float],
    form: str,
    tmp_path: Path,
    body: BodyModel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    card_of(tmp_path, body, **int8)
    chosen = of_card(tmp_path, "default", body)
    assert (chosen.form, chosen.exported_by) == (form, "pchmr 0.1.7")
    assert ("fp32 is taken" in " ".join(capsys.readouterr().err.split())) == (form == "fp32")
    assert of_card(tmp_path, "int8", body).form == "int8"


@pytest.mark.whole
def test_the_kept_export_is_of_this_code_and_says_what_pytorch_says(
    tmp_path: Path, body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_room, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(chosen_room, "code_sha256", lambda: "old")
    written = []

    def write(model: object, path: Path) -> None:
        written.append(path)
        path.write_bytes(b"network")

    monkeypatch.setattr(graph, "export_model", write)
    monkeypatch.setattr(measured, "difference_m", lambda model, path: 1e-6)
    first = own_export(LiveConfig(), body)
    assert own_export(LiveConfig(), body).path == first.path and len(written) == 1
    monkeypatch.setattr(chosen_room, "code_sha256", lambda: "new")
    monkeypatch.setattr(measured, "difference_m", lambda model, path: 0.02)
    with pytest.raises(ModelRefused, match="20 mm from PyTorch"):
        own_export(LiveConfig(), body)
    assert len(list(tmp_path.rglob("*.onnx"))) == 1


def test_the_fastest_number_of_threads_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {1: 48.0, 2: 33.0, 4: 50.0}
    monkeypatch.setattr(runtime, "OnnxModel", Stand)
    monkeypatch.setattr(runtime, "_milliseconds", lambda model, image: costs[model.threads])
    monkeypatch.setattr(runtime.os, "cpu_count", lambda: 8)
    model, spent = fastest_model(Path("model.onnx"))
    assert model.threads == 2 and spent == costs


def test_an_exported_network_answers_by_name() -> None:
    network = Network(Stand(Path("model.onnx")))
    found = network(torch.zeros(1, 3, 2, 2))
    assert np.allclose(found.vertices, 1.0) and hasattr(found, "camera")


def test_ports_of_the_pages_differ() -> None:
    assert LiveConfig().port != ReviewConfig(labels=Path("labels")).port
