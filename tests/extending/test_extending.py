"""What `docs/extending.md` tells: one line in one table, and the command line knows the new thing.

The tables are read when configs are defined, so the lines are added in a process of their own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LINES = """
import sys
from pathlib import Path
from pchmr import choices

choices.PARTITIONS["in-turn"] = choices.Dealing(
    target="toys:in_turn", reads=("shards_per_client",)
)
choices.ALGORITHMS["halved"] = choices.Choice(target="toys:ALGORITHM", reads=("mu",))

from dataclasses import replace
import toys
from pchmr import cli, data, perception
from pchmr.models.specs import MODELS

MODELS["toy"] = replace(MODELS["fastmetro_xs"], network="toys:Network")
rendered = data.FOLDERS.pop("rendered")
data.FOLDERS |= {"toy": data.FolderKind(toys.is_toy, toys.open_toy), "rendered": rendered}
perception.PRIORS["toy"] = perception.Prior(target="toys:Prior", kind="keypoints")
cli.VERBS["hello"] = cli.Verb(toys.HelloConfig, "toys:hello")

assert cli.main(["hello", "--word", "done"]) == 0
perception.load_keypoint_prior("toy", Path(toys.__file__))
assert cli.main(["federate", "--partition", "shards", "--mu", "0.5"]) == 2
sys.exit(cli.main([
    "federate", "--model", "toy", "--from-scratch", "--data", "people", "--image-size", "64",
    "--num-clients", "2", "--clients-per-round", "2", "--num-rounds", "1",
    "--partition", "in-turn", "--shards-per-client", "3", "--algorithm", "halved", "--mu", "0.25",
    "--output", "run",
]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extending")
    (folder / "people").mkdir()
    (folder / "people" / "toy.txt").touch()
    return folder


@pytest.fixture(scope="module")
def said(place: Path) -> str:
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", LINES],
        cwd=place,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.whole
@pytest.mark.parametrize(
    "words",
    [
        "the word is done",
        "prior from toys.py",
        "network toy with loss xs",
        "people of train",
        "client term, mu 0.25",
        "--mu is read by fedprox, ditto, halved only",
    ],
)
def test_what_was_added_is_found_by_its_name(said: str, words: str) -> None:
    assert words in said


def test_a_partition_gets_the_settings_that_its_record_names(said: str, place: Path) -> None:
    dealt = json.loads((place / "run" / "partition.json").read_text())
    assert dealt["clients"] == [[0, 1, 2], [3, 4, 5]]


def test_the_page_names_every_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    tables = ("PARTITIONS", "ALGORITHMS", "MODELS", "FOLDERS", "PRIORS", "VERBS", "BENCHES")
    assert all(f"`{table}`" in page or f".{table}`" in page for table in tables)
