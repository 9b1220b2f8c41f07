"""The audit of a run from folder to page, on few small people; its figures say nothing here."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from pchmr.body import load_body
from pchmr.cli import main
from pchmr.config import DataOptions, FederateConfig, OptimOptions, PrivacyOptions, to_json
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.privacy.audit.people import Cast, Joined, Plan, cast_of

pytestmark = pytest.mark.whole

PLAN = Plan(
    num_targets=12, num_tuning=3, num_doubled=3, num_singles=4, most_pictures=2, num_pools=1
)
audit_run = import_module("pchmr.privacy.audit.run")  # the package shows its function by this name
ATTACKS = {"shape", "membership", "reconstruction", "rounds", "crafted"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rendered people, as `--data` takes them."""
    place = tmp_path_factory.mktemp("people")
    recipe = SyntheticRecipe(domain="B", split="validation", num_samples=70, image_size=64)
    SyntheticPeople.write(place / "people", recipe, load_body(None))
    return place


@pytest.fixture(scope="module")
def cast(folder: Path) -> Cast:
    return cast_of(Joined([SyntheticPeople.open(folder / "people")]), PLAN)


def test_nobody_is_in_two_roles_and_no_picture_is_trained_on_and_not(cast: Cast) -> None:
    roles = [set(cast.shadow), set(cast.tuning), set(cast.target)]
    assert sum(map(len, roles)) == len(set.union(*roles)) == len(cast.rows)
    subjects = cast.people.columns["subject"]
    for rows, others in zip(cast.rows, cast.others, strict=True):
        assert not set(rows) & set(others)
        assert len({subjects[row] for row in [*rows, *others]}) == 1
    assert len(cast.doubled) == 3 and set(cast.doubled) <= set(cast.target)
    assert len({tuple(betas) for betas in cast.betas}) == len(cast.rows)


def run_folder(tmp_path: Path, **changes: object) -> Path:
    settings = {
        "num_clients": 10,
        "clients_per_round": 5,
        "data_options": DataOptions(image_size=64),
        "optim_options": OptimOptions(batch_size=4),
    }
    config = FederateConfig(**(settings | changes))  # type: ignore[arg-type]
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "config.json").write_text(to_json(config))
    return tmp_path


@pytest.mark.parametrize("view", ["secure", pytest.param("plain", marks=pytest.mark.slow)])
def test_an_audit_ends_with_figures_and_a_page(
    view: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_run, "QUICK", PLAN)
    monkeypatch.setattr(audit_run, "QUICK_STEPS", 1)
    run = run_folder(tmp_path / "run")
    people = ["--data", str(folder / "people"), "--quick"]
    assert main(["audit", str(run), "--view", view, *people]) == 0
    found = json.loads((run / f"audit-{view}.json").read_text())
    assert found["view"] == view and found["cohort"] == 5
    assert {figure["attack"] for figure in found["figures"]} == ATTACKS
    for figure in found["figures"]:
        low, high = figure["interval"]
        assert np.isfinite(figure["value"]) and low <= figure["value"] + 1e-9
        assert high >= figure["value"] - 1e-9 and np.isfinite(figure["chance"])
    page = (run / f"audit-{view}.html").read_text()
    assert "Neither view protects the released model" in page and "<script" not in page
    assert page.count("<tr>") > len(found["figures"])
    assert "http" not in page.split("</style>")[1]


def test_the_noise_of_a_run_is_in_what_the_attacker_is_told(tmp_path: Path) -> None:
    from pchmr.config import AuditConfig

    noised = PrivacyOptions(aggregation="secure", dp_clip=0.5, dp_noise_multiplier=2.0)
    config = AuditConfig(run=run_folder(tmp_path / "run", privacy_options=noised))
    view = audit_run.view_of(config, audit_run.run_config(config))
    assert (view.name, view.cohort, view.deviation) == ("secure", 5, 1.0)
