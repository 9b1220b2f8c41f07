"""A run whose clients keep images back: their own scores, and what stands in its summary."""

import json
from pathlib import Path

import pytest

from pchmr.cli import main

COMMAND = (
    "federate --num-samples 12 --num-test-samples 4 --image-size 64 --num-clients 2 "
    "--clients-per-round 2 --num-rounds 1 --batch-size 4 --held-out-share 0.34 "
)


def run(output: Path, words: str) -> dict[str, object]:
    assert main([*COMMAND.split(), *words.split(), "--output", str(output)]) == 0
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module")
def ditto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("own") / "run"
    run(output, "--algorithm ditto --client-state average --optimizer muon")
    return output


@pytest.mark.whole
def test_clients_are_scored_on_images_that_they_did_not_train_on(ditto: Path) -> None:
    summary = json.loads((ditto / "summary.json").read_text())
    dealt = json.loads((ditto / "partition.json").read_text())["clients"]
    assert [len(rows) for rows in dealt] == [4, 4]
    assert summary["clients"]["num_clients"] == 2
    assert 50 < summary["clients"]["mean_mm"] < 500


def test_the_summary_says_that_moments_leave_a_client(ditto: Path) -> None:
    summary = json.loads((ditto / "summary.json").read_text())
    assert "moments float32[" in summary["egress"]["leaves_client"]
    row = json.loads((ditto / "metrics.jsonl").read_text().splitlines()[0])
    assert set(row["left_client"]["arrays"]) == {"delta", "moments", "squares"}
    sizes = [int(kind[8:-1]) for kind in row["left_client"]["arrays"].values()]
    assert 0 <= row["bytes_up"] - 2 * 4 * sum(sizes) < 4000


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("--held-out-share 1.5", "--held-out-share must lie in"),
        ("--algorithm fedrep", "--local-epochs"),
        ("--own-share 0.3", "--own-share is read by apfl only"),
        ("--client-state average --dp-clip 1 --dp-noise-multiplier 1", "take reset or keep"),
    ],
)
def test_refusals_name_the_cure(words: str, cure: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND.split(), *words.split()]) == 2
    assert cure in capsys.readouterr().err
