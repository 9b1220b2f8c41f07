"""`pchmr live --native`: bad sources in one line, and the exported network in place of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.cli import main
from pchmr.config import LiveConfig, ReviewConfig, SettingError
from pchmr.device import runtime
from pchmr.device.chosen import ModelRefused, of_card
from pchmr.device.native import Network
from pchmr.device.runtime import OnnxModel, fastest_model


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
