"""The paper's own tables, made small: cells, figures, hours, and one table from files to rows."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pchmr.bench import comparison
from pchmr.config import BenchConfig, FederateConfig, SettingError, TrainConfig
from pchmr.data.sets.importing import Job, import_set
from pchmr.data.sets.part import ReadOptions
from pchmr.data.sets.placing import Bodies
from pchmr.recipes import RECIPES, paper
from pchmr.recipes.paper import num_images, paper_cells

ABOUT = {"data": Path("set"), "num_samples": 312_188, "num_scenes": 24, "body": None, "start": None}


def test_every_row_of_the_paper_has_its_figure_and_as_many_images() -> None:
    rows = {name: paper_cells(name, 1, **ABOUT) for name in paper.PAPER_TABLES}
    found = {cell.paper for made in rows.values() for cell in made} - {None}
    assert found == set(paper.PAPER.values())
    for made in rows.values():
        assert {cell.model for cell in made} == {"fastmetro_s", "tore_s"}
        images = {num_images(cell, 312_188) for cell in made} - {0}
        assert max(images) <= 1.02 * min(images)
    federated = {c.id: c.base for c in rows["client-scale"] if isinstance(c.base, FederateConfig)}
    assert {run.num_clients: run.num_rounds for run in federated.values()} == {
        10: 60, 100: 600, 1000: 6000,
    }  # fmt: skip
    assert all(run.clients_per_round == 10 and run.local_epochs == 1 for run in federated.values())


def test_settings_are_the_published_ones() -> None:
    cells = {(c.model, c.id): c.base for c in paper_cells("client-scale", 1, **ABOUT)}
    fast, tore = (cells[name, "centralized"] for name in ("fastmetro_s", "tore_s"))
    assert isinstance(fast, TrainConfig) and isinstance(tore, TrainConfig)
    assert (fast.num_epochs, fast.optim_options.learning_rate) == (60, 1e-4)
    assert (fast.optim_options.clip_by, tore.optim_options.clip_by) == ("norm", "value")
    assert (fast.schedule, tore.schedule) == ("constant", "step")
    started = {**ABOUT, "start": Path("weights")}
    finetuned = {c.id: c.base for c in paper_cells("finetune", 1, **started)}
    central = finetuned["3dpw-centralized"]
    assert isinstance(central, TrainConfig)
    assert (central.num_epochs, central.optim_options.learning_rate) == (8, 2e-5)
    assert central.model_options.checkpoint == Path("weights/tore_s.safetensors")
    natural = finetuned["3dpw-natural"]
    assert isinstance(natural, FederateConfig)
    assert (natural.partition, natural.num_clients) == ("natural", 24)


def test_what_it_needs_is_said(tmp_path) -> None:
    with pytest.raises(SettingError, match="the paper's tables are"):
        BenchConfig(name="optimizers", scale="paper")
    with pytest.raises(SettingError, match="read with --scale paper only"):
        BenchConfig(name="lda", start=tmp_path)
    with pytest.raises(SettingError, match="needs --data DST, written by `pchmr data import`"):
        comparison.run(BenchConfig(name="lda", scale="paper", data=tmp_path, output=tmp_path))


def layouts():
    """The writers of fixtures of data sets."""
    path = Path(__file__).resolve().parents[1] / "data" / "sets" / "layouts.py"
    spec = importlib.util.spec_from_file_location("layouts_of_sets", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # its dataclasses look themselves up
    spec.loader.exec_module(found)
    return found


@pytest.mark.slow
def test_a_table_from_files_to_rows(body, tmp_path, monkeypatch, capsys) -> None:
    from pchmr.body.archive import read_npz
    from pchmr.body.files import ASSET

    arrays = read_npz(ASSET)
    layouts().write_truth(tmp_path, arrays, count=20)
    data = tmp_path / "set"
    import_set(Job(name="truth", source=tmp_path, folder=data, bodies=Bodies(body, {}),
                   image_size=64, options=ReadOptions()))  # fmt: skip
    small = replace(RECIPES["paper-fastmetro"], num_epochs=1)
    monkeypatch.setitem(RECIPES, "paper-fastmetro", small)
    monkeypatch.setattr(paper, "MODELS", {"fastmetro_xs": "paper-fastmetro"})

    def one_client(runs: paper.PaperRuns):
        base = runs.recipe
        return [runs.before(base), runs.cell("centralized", "centralized", base),
                runs.cell("1-client", "1 of 1 clients", runs.rounds(base, 1))]  # fmt: skip

    monkeypatch.setitem(paper.PAPER_TABLES, "client-scale", one_client)
    config = BenchConfig(name="client-scale", scale="paper", data=data, output=tmp_path / "results")
    comparison.run(config)
    said = capsys.readouterr().err
    assert "3 cells, 32 images: about" in said and "hours" in said
    lines = (tmp_path / "results" / "client-scale.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {"before", "centralized", "1-client"} <= {row["id"] for row in rows}
    assert all("truth" in row["differs"] and "box" in row["differs"] for row in rows)
    comparison.run(config)  # nothing is run again
    assert (tmp_path / "results" / "client-scale.jsonl").read_text().splitlines() == lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "name"), [("lda", "h36m"), ("natural", "3dpw"), ("finetune", "3dpw")]
)
def test_tables_of_the_sets_that_the_paper_took(
    table, name, body, tmp_path, monkeypatch, capsys
) -> None:
    """One epoch of a small network on fixtures of Human3.6M and 3DPW, from files to rows."""
    from pchmr.body.archive import read_npz
    from pchmr.body.files import ASSET

    arrays = read_npz(ASSET)
    if name == "h36m":
        layouts().write_h36m(tmp_path / "files", arrays, frames=(*range(0, 60, 5), 64))
    else:
        layouts().write_3dpw(tmp_path / "files", {"m": arrays, "f": arrays}, count=10)
    import_set(Job(name=name, source=tmp_path / "files", folder=tmp_path / "set",
                   bodies=Bodies(body, {}), image_size=64, options=ReadOptions()))  # fmt: skip
    for recipe in ("paper-fastmetro", "paper-tore"):
        monkeypatch.setitem(RECIPES, recipe, replace(RECIPES[recipe], num_epochs=1))
    monkeypatch.setattr(paper, "FINETUNE_EPOCHS", 1)
    monkeypatch.setattr(paper, "MODELS", {"fastmetro_xs": "paper-fastmetro"})
    monkeypatch.setattr(paper, "ALPHAS", paper.ALPHAS[:1])
    monkeypatch.setattr(paper, "LDA_CLIENTS", 4)
    config = BenchConfig(
        name=table, scale="paper", data=tmp_path / "set", output=tmp_path / "results"
    )
    comparison.run(config)
    assert "hours" in capsys.readouterr().err
    lines = (tmp_path / "results" / f"{table}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    dealt = "LDA-" if table == "lda" else "3dpw-"
    ids = {row["id"] for row in rows}
    assert "before" in ids and len([id_ for id_ in ids if id_.startswith(dealt)]) >= 1
    if table != "lda":
        assert {"3dpw-centralized", "3dpw-iid", "3dpw-natural"} <= ids
    errors = [row["scores"]["mpjpe_mm"] for row in rows if row.get("scores")]
    assert len(errors) >= 3 and all(0 < error < 5000 for error in errors)
