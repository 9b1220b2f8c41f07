"""The quick demo is the whole story on few pictures; it runs once and everything looks at it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pchmr.cli import main
from pchmr.demo import QUICK

pytestmark = pytest.mark.whole

SCORES = ("mpjpe_mm", "pa_mpjpe_mm", "mpvpe_mm")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder to work in, with a cache of its own."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.setenv("PCHMR_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def demo(place: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the demo said, in a process of its own, as a user starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "pchmr.cli", "demo", "--quick"],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_demo_ends_with_the_report_and_the_next_command(demo, place: Path) -> None:
    last = demo.strip().splitlines()[-2:]
    assert "report.html" in last[0] and "pchmr federate" in last[1]
    page = (place / "runs/demo/report.html").read_text()
    assert "data:image/png;base64" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    for word in ("centralized", "federated", "mean pose", "T-pose", "model updates", "own people"):
        assert word.lower() in page.lower()


@pytest.mark.parametrize("kind", ["centralized", "federated", "secure"])
def test_run_folders_hold_what_later_steps_rely_on(demo, place: Path, kind: str) -> None:
    folder = place / "runs/demo" / kind
    summary = json.loads((folder / "summary.json").read_text())
    for scores in (summary["before"], summary["after"], *summary["baselines"].values()):
        assert all(scores[name] > 0 for name in SCORES)
    assert set(summary["baselines"]) == {"mean_pose", "t_pose"}
    assert summary["before"]["mpjpe_mm"] < summary["baselines"]["mean_pose"]["mpjpe_mm"]
    assert len(summary["model_sha256"]) == 64 and summary["seconds"] > 0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [1, 2]
    assert all(row[name] > 0 for row in rows for name in SCORES)
    assert rows[-1]["mpjpe_mm"] == summary["after"]["mpjpe_mm"]
    assert (folder / "config.json").exists() and (folder / "model.safetensors").exists()


def test_only_the_federated_run_moves_updates(demo, place: Path) -> None:
    def read(kind: str) -> dict:
        return json.loads((place / "runs/demo" / kind / "summary.json").read_text())

    federated, centralized = read("federated"), read("centralized")
    assert federated["bytes_up"] > 0 and federated["bytes_down"] > 0
    assert "images" in centralized["egress"]["leaves_client"]
    assert "images" not in federated["egress"]["leaves_client"]
    assert federated["before"] == centralized["before"]
    assert federated["model_sha256"] != centralized["model_sha256"]
    secure = read("secure")
    assert (
        secure["aggregation"] == "secure" and "no single update" in secure["egress"]["server_sees"]
    )
    assert secure["bytes_up"] < 0.7 * federated["bytes_up"]


def test_evaluating_the_trained_weights_gives_the_summary_again(demo, place: Path) -> None:
    folder = place / "runs/demo/federated"
    numbers = (QUICK.num_samples, QUICK.num_test_samples)
    options = ("--num-samples", "--num-test-samples")
    people = [word for pair in zip(options, map(str, numbers), strict=True) for word in pair]
    weights = ["--checkpoint", str(folder / "model.safetensors")]
    assert main(["evaluate", *weights, *people, "--output", "runs/again"]) == 0
    again = json.loads((place / "runs/again/summary.json").read_text())
    assert again["before"] == json.loads((folder / "summary.json").read_text())["after"]


def test_a_replayed_config_gives_the_same_metrics(demo, place: Path) -> None:
    folder = place / "runs/demo/federated"
    config = ["--config", str(folder / "config.json")]
    assert main(["federate", *config, "--output", "runs/replayed"]) == 0

    def scores(path: Path) -> list[dict]:
        rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        return [{name: row[name] for name in SCORES} for row in rows]

    assert scores(place / "runs/replayed") == scores(folder)


def test_a_killed_run_can_still_be_reported(demo, place: Path) -> None:
    killed = place / "runs/killed"
    killed.mkdir()
    source = place / "runs/demo/federated"
    for name in ("config.json", "environment.json", "start.json"):
        (killed / name).write_bytes((source / name).read_bytes())
    (killed / "metrics.jsonl").write_bytes((source / "metrics.jsonl").read_bytes()[:-20])
    assert main(["report", str(killed), "--output", "runs/killed.html"]) == 0
    assert "unfinished" in (place / "runs/killed.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "missing.jpg"), "missing.jpg"),
        (("predict", "corrupt.jpg"), "corrupt.jpg"),
        (("predict", "photo.png", "--bbox", "1,1,4,4"), "too small to use"),
        (("predict", "photo.png", "--bbox", "1,1,4"), "bbox"),
        (("predict", "photo.png", "--checkpoint", "other.safetensors"), "other.safetensors"),
        (("evaluate", "--checkpoint", "nowhere.safetensors"), "nowhere.safetensors"),
        (("evaluate", "--model", "fastmetro_xxl"), "fastmetro_xxl"),
        (("train", "--config", "unknown.json"), "learning_speed"),
        (("federate", "--num-clients", "5", "--clients-per-round", "6"), "clients-per-round"),
        (("report", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    place: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "bad"
    folder.mkdir(exist_ok=True)
    (folder / "corrupt.jpg").write_bytes(b"\xff\xd8\xff no picture")
    Image.new("RGB", (64, 64)).save(folder / "photo.png")
    save_file({"no.such.key": torch.zeros(2)}, folder / "other.safetensors")
    (folder / "unknown.json").write_text('{"optim_options": {"learning_speed": 1}}')
    before = sorted(folder.rglob("*"))
    with chdir(folder):
        assert main(arguments) == 2
    words = capsys.readouterr().err
    assert said in words and len(words.strip().splitlines()) == 1, words
    assert sorted(folder.rglob("*")) == before
