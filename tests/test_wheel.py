"""The wheel stands alone: built, unpacked beside the libraries, it works with no repository near.

The libraries are those of this environment, the package is the wheel's: a new environment sees the
one folder as it is, so that the editable install of the repository is not on its path.
"""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pchmr.data.synthetic.people import SyntheticPeople

ROOT = Path(__file__).parents[1]
PAGES = "pchmr/web/assets"

pytestmark = pytest.mark.wheel


def run(command: list[str | Path], folder: Path) -> str:
    """Runs it in a folder, without what this environment says of Python; returns what it said."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env |= {"PCHMR_CACHE": str(folder / "cache"), "PCHMR_DATA": str(folder / "data")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT]
    run(build, folder)
    (wheel,) = folder.glob("pchmr-*.whl")
    assert wheel.stat().st_size < 40 * 2**20
    with zipfile.ZipFile(wheel) as archive:
        built = json.loads(archive.read(f"{PAGES}/built.json"))
        found = {name: hashlib.sha256(archive.read(f"{PAGES}/{name}")) for name in built["files"]}
        assert b"Microsoft Corporation" in archive.read(f"{PAGES}/LICENSES.txt")
    wanted = {name: about["sha256"] for name, about in built["files"].items()}
    assert {name: digest.hexdigest() for name, digest in found.items()} == wanted
    assert {"live.js", "review.js", "worker.js", "painter.js"} <= set(wanted)
    venv.create(folder / "env", with_pip=False)
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run([*install, "--target", site, wheel], folder)
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def test_the_package_is_the_wheels(place: Path) -> None:
    python = place / "env/bin/python"
    where = run([python, "-c", "import pchmr; print(pchmr.__file__)"], place).strip()
    assert Path(where).is_relative_to(place / "env")


def test_demo_and_predict_work_from_it(place: Path) -> None:
    command = [place / "env/bin/python", "-m", "pchmr.cli"]
    run([*command, "demo", "--quick", "--output", "demo"], place)
    assert (place / "demo/report.html").is_file()
    world = ["--output", "people", "--num-samples", "2", "--num-test-samples", "2"]
    run([*command, "data", "synth", *world, "--image-size", "256"], place)
    image = SyntheticPeople.open(place / "people/test").image(0)
    picture = place / "person.png"
    Image.fromarray(image).save(picture)
    run([*command, "predict", picture, "--output", "meshes", "--bbox", "20,0,216,256"], place)
    (result,) = (place / "meshes").glob("*.npz")
    with np.load(result) as found:
        assert found["vertices"].shape[0] == 1
    assert json.loads((place / "demo/federated/summary.json").read_text())["after"]
