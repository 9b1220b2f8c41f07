"""The table of annotators: its arithmetic by hand, its harder people, its parts that survive."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.overlay import png, side_view
from pchmr.bench.annotators import images, scores
from pchmr.bench.annotators.oracle import OracleNoise, draw_people, observe
from pchmr.bench.annotators.scores import SCORES, Run, interval, kept, run_mode
from pchmr.bench.annotators.speed import worst_derivative
from pchmr.bench.annotators.strangers import draw_strangers, dress
from pchmr.bench.annotators.tables import (
    CASES,
    DENSE,
    DEPTH_NOISES_CM,
    METRIC,
    STRONG,
    About,
    Case,
    curve_cases,
    curve_rows,
    error_row,
    ratio_rows,
    stops_paying,
)
from pchmr.body import BodyModel
from pchmr.config import DataOptions
from pchmr.data import load_people


def made_up(scale: float, count: int = 40) -> Run:
    values = scale * np.linspace(50, 250, count)
    return Run(dict.fromkeys(SCORES, values), {}, 12.0)


def test_rows_hold_means_failures_and_paired_ratios() -> None:
    case = next(c for c in CASES if c.mode == DENSE and c.targets)
    row = error_row(case, made_up(1.0), About(seed=0, n=40))
    assert row.scores["mpjpe_mm"] == 150.0 and row.scores["over 150 mm, %"] == 50.0
    low, high = row.intervals["mpjpe_mm"]
    assert low < 150 < high and row.n == 40
    ratios = ratio_rows(case, made_up(0.5), made_up(1.0), About(seed=0))
    assert [r.scores["value"] for r in ratios[:5]] == [0.5] * 5
    assert ratios[0].scores["95 % from"] == pytest.approx(0.5)  # paired: no spread is left
    assert str(ratios[0].target) == "<= 0.6" and str(ratios[3].target) == "<= 0.65"
    assert ratios[-1].scores["value"] == 0.0 and str(ratios[-1].target) == "<= 2"


def test_where_depth_stops_to_pay() -> None:
    ratios = [0.5, 0.6, 0.7, 0.9, 1.1, 1.2, 1.3]
    assert len(ratios) == len(DEPTH_NOISES_CM)
    assert stops_paying(ratios) == pytest.approx((DEPTH_NOISES_CM[3] + DEPTH_NOISES_CM[4]) / 2)
    assert stops_paying([0.9] * 7) is None and stops_paying([1.0] * 7) == 0.0
    cases = curve_cases()
    runs = [(case, made_up(1.0 if case.mode == STRONG else 0.8)) for case in cases]
    rows = curve_rows(runs, About(seed=0))
    assert sum("never" in (row.differs or "") for row in rows) == 2
    assert len({c.cell for c in CASES}) == len(CASES)


def test_an_interval_holds_the_mean_and_shrinks() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(100, 20, 400)
    low, high = interval([values], lambda a: a)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 20 / np.sqrt(400), rel=0.15)


def test_a_finished_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCHMR_CACHE", str(tmp_path))
    calls = []

    def compute() -> Run:
        calls.append(1)
        return Run({name: np.ones(3) for name in SCORES}, {"spread": np.zeros(3)}, 5.0)

    first, again = kept("one", compute), kept("one", compute)
    assert len(calls) == 1 and again.ms_per_image == first.ms_per_image
    assert again.signals["spread"].tolist() == [0, 0, 0]
    kept("another", compute)
    assert len(calls) == 2


def test_truncated_people_lose_keypoints_and_points_beyond_the_border(body: BodyModel) -> None:
    people = draw_people(body, 8, domain="B", seed=5)
    whole = observe(body, people, METRIC)
    cut = observe(body, people, replace(METRIC, truncated_share=1.0))
    assert (cut.num_seen < whole.num_seen).all()
    assert cut.points is not None and whole.points is not None
    assert np.isfinite(cut.points[..., 0]).any(axis=1).all()
    gone = cut.keypoints_2d[..., 2] == 0
    assert cut.keypoint_depth is not None and np.isnan(cut.keypoint_depth[gone]).mean() > 0.9


def test_clothes_lie_on_the_skin(body: BodyModel) -> None:
    people = draw_people(body, 2, domain="B", seed=5)
    thick = dress(body, people, 0.02)
    offset = (thick.surface - people.vertices).norm(dim=-1)
    torch.testing.assert_close(offset, torch.full_like(offset, 0.02), atol=1e-4, rtol=0)
    assert thick.vertices is people.vertices


@pytest.mark.slow
@pytest.mark.skipif(find_spec("anny") is None, reason="pip install pchmr[build]")
def test_annys_own_people_are_seen_by_the_annotator(body: BodyModel) -> None:
    people = draw_strangers(body, 4)
    assert (people.vertices[..., 2] > 0.2).all()
    height = people.vertices.amax(dim=1) - people.vertices.amin(dim=1)
    assert (height.norm(dim=-1) < 3).all()
    run = run_mode(Annotator(body), people.vertices, observe(body, people, METRIC), DENSE)
    assert run.scores["mpjpe_mm"].mean() < 90


@pytest.mark.whole
def test_analytic_derivatives_at_fitted_states() -> None:
    assert worst_derivative(1) < 1e-6


def test_the_side_view_shows_depth_across(body: BodyModel) -> None:
    """A body that leans away from the camera leans to the right."""
    lean = body.v_template.clone()
    lean[:, 2] = lean[:, 2] + 2 * lean[:, 1]
    seen = lean * torch.tensor([1.0, -1.0, -1.0]) + torch.tensor([0.0, 0.0, 4.0])
    view = side_view(seen, body.faces, 64)
    assert view.shape == (64, 64, 3) and png(view)[:4] == b"\x89PNG"
    dark = view.mean(axis=-1) < 230
    top, bottom = (np.nonzero(part)[1].mean() for part in (dark[:24], dark[40:]))
    assert abs(top - bottom) > 10


def test_noise_of_swaps_is_that_of_the_case() -> None:
    swapped = [c for c in CASES if isinstance(c, Case) and c.noise.swap_share]
    assert {c.noise.swap_share for c in swapped} == {0.05}
    assert OracleNoise().truncated_share == 0


def test_every_file_that_decides_a_run_is_in_its_key() -> None:
    root = Path(scores.__file__).parents[2]
    files = {p.relative_to(root).as_posix() for q in scores.DECIDING for p in root.glob(q)}
    assert {
        "annotate/clips.py", "annotate/evidence.py", "annotate/pictures.py",
        "perception/embedded.py", "perception/detection.py", "perception/network.py",
        "perception/assets/presence_v1.json", "annotate/assets/quality_v1.json",
        "bench/annotators/images.py", "body/skinning.py", "metrics.py", "geometry.py",
        "models/xs.py", "data/synthetic/poses.py", "data/labels.py",
    } <= files  # fmt: skip
    for pattern in scores.DECIDING:
        assert any(root.glob(pattern)), pattern


def test_rows_of_ones_own_pictures_have_names_of_their_own(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the embedded people's table is written anew, and labels are no truth."""
    monkeypatch.setenv("PCHMR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "MODES", (STRONG, images.KEYPOINT))
    options = DataOptions(num_test_samples=2, cache=tmp_path / "made", image_size=112)
    people = load_people(options, "test", body=body, seed=0, image_size=112)
    monkeypatch.setattr(images, "_people", lambda *_: people)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "manifest.jsonl").write_text("")
    rows = list(images.image_rows(Annotator(body), folder))
    assert rows and all(row.label.startswith("images of mine: ") for row in rows)
    assert {row.differs for row in rows} == {images.LABELED}
    assert "consistency, not accuracy" in images.LABELED
