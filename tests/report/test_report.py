import io
import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from crowd import Crowd, Seer, people

from pchmr.body import BodyModel
from pchmr.config import ReportConfig
from pchmr.data.errors import InputError
from pchmr.examples import read_examples, write_examples
from pchmr.report import paper, run, write_report
from pchmr.report.page import render
from pchmr.report.records import find_runs, read_record
from pchmr.report.tables import compare, human_bytes, human_seconds, spread
from pchmr.runs import EXAMPLES, EXAMPLES_BEFORE

Make = Callable[..., Path]
WORLDS = {"B": "b" * 64}


class Reader(HTMLParser):
    """Collects the cells of every table and what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        if tag not in ("meta", "link", "img", "path", "use"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "th" in self.open or "td" in self.open:
            self.rows[-1][-1] += f" {data.strip()}"

    def row(self, label: str) -> list[str]:
        return next(
            [c.strip() for c in row] for row in self.rows if row[0].strip().startswith(label)
        )


def page_of(*folders: Path, output: Path) -> tuple[str, Reader]:
    text = write_report(list(folders), output).read_text()
    return text, Reader(text)


def test_table_says_scores_change_and_what_the_runs_recorded(
    make_run: Make, tmp_path: Path
) -> None:
    central = make_run("centralized", "centralized", (180.0, 150.0))
    text, page = page_of(central, make_run(), output=tmp_path / "report.html")
    assert page.row("Mean pose")[1:4] == ["301.2", "150.6", "311.2"]
    assert page.row("T-pose")[1] == "402.5"
    assert page.row("Before")[1] == "192.3" and "shipped fastmetro_xs" in page.row("Before")[0]
    assert page.row("Before")[4:6] == ["nothing", "no one"]
    federated = page.row("Federated")
    assert federated[1].split() == ["160.5", "−31.8"]
    assert federated[4:] == ["federated <things>", "sums & counts", "2.5 MB", "0 B", "1 min 15 s"]
    assert page.row("Centralized")[4] == "centralized <things>"
    assert "<things>" not in text, "what runs recorded must be escaped"
    assert text.count("<svg") == 2 and "MPJPE per round or epoch" in text
    for fact in ("sha256 cdcdcdcdcdcdcdcd", "torch 2", "Seed", "sha256 abababababababab"):
        assert fact in text


def test_page_asks_for_no_other_file_and_runs_no_script(make_run: Make, tmp_path: Path) -> None:
    text, page = page_of(make_run(), output=tmp_path / "report.html")
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "<script" not in text and "url(" not in re.sub(r"url\(#\w+\)", "", text)
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}
    assert page.open == [] and "default-src 'none'" in text


def test_paper_stands_apart_and_complete(make_run: Make, tmp_path: Path) -> None:
    text, page = page_of(make_run(), output=tmp_path / "report.html")
    ours, reference = text.split('<section class="reference">')
    assert "57.98 / 40.62" not in ours and "57.98 / 40.62" in reference
    assert "paper, real data" in reference and "ours, synthetic" in ours
    assert len(paper.CLIENT_SCALE) == 4 and paper.CITATION.split(":")[0] in reference
    assert page.row("federated, 1000 clients")[1:] == ["60.82 / 44.53", "66.04 / 44.04"]


def test_same_runs_same_page(make_run: Make, tmp_path: Path) -> None:
    folder = make_run()
    first, _ = page_of(folder, output=tmp_path / "a.html")
    second, _ = page_of(folder, output=tmp_path / "b.html")
    assert first == second


def test_killed_run_is_read_as_far_as_it_came(make_run: Make, tmp_path: Path) -> None:
    folder = make_run(finished=False)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"round": 3, "mpj')
    _, page = page_of(folder, output=tmp_path / "report.html")
    row = page.row("Federated")
    assert "unfinished: 2 of 4" in row[0] and row[1].split() == ["160.5", "−31.8"]
    assert row[4:] == ["n/a"] * 5
    assert page.row("Mean pose")[1] == "n/a" and page.row("Before")[1] == "192.3"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "{"),
        ("summary.json", "[]"),
        ("summary.json", '{"before": 3, "after": {"mpjpe_mm": "x"}, "baselines": [], "egress": 1}'),
        ("summary.json", '{"seconds": "long", "started_from": 7, "bytes_up": null, "kind": 5}'),
        ("config.json", "no json"),
        ("config.json", '{"seed": [1], "data_options": null}'),
        ("environment.json", '{"packages": 3, "cpu_count": "many"}'),
        ("start.json", "\0"),
        (
            "metrics.jsonl",
            '3\n[]\n{"round": "a"}\n{"mpjpe_mm": 4}\n{"round": 1, "mpjpe_mm": "b"}\n',
        ),
        ("examples.npz", "no archive"),
    ],
)
def test_damaged_files_never_stop_the_page(
    make_run: Make, tmp_path: Path, name: str, content: str
) -> None:
    folder = make_run()
    (folder / name).write_text(content)
    text, _ = page_of(folder, output=tmp_path / "report.html")
    assert "</html>" in text


def test_seeds_are_averaged_and_variants_kept_apart(make_run: Make) -> None:
    folders = [make_run(f"seed{s}", rounds=(170.0, 150.0 + s), seed=s) for s in range(3)]
    other = make_run("other", rounds=(170.0, 140.0))
    config = json.loads((other / "config.json").read_text())
    config["optim_options"]["learning_rate"] = 0.5
    (other / "config.json").write_text(json.dumps(config))
    (comparison,) = compare([read_record(f) for f in (*folders, other)], WORLDS)
    first, second = comparison.rows[-2:]
    assert str(first.scores["mpjpe_mm"]) == "151.0 ± 1.0" and "seeds 0, 1, 2" in first.detail
    assert str(second.scores["mpjpe_mm"]) == "140.0" and "learning_rate 0.5" in second.detail
    assert (first.label, second.label) == ("Federated 1", "Federated 2")
    assert str(comparison.rows[0].scores["mpjpe_mm"]) == "301.2"


def test_people_of_another_recipe_are_stale_and_stand_apart(make_run: Make) -> None:
    recipe = {"version": 1, "worlds": {"B": "0123456789" * 6}}
    old, new = make_run("old", recipe=recipe), make_run("new")
    first, second = compare([read_record(old), read_record(new)], WORLDS)
    said = "people of domain B by recipe 01234567"
    assert (first.stale, second.stale) == ("", said)
    assert f"stale: {said}" in render([read_record(old)], WORLDS)
    assert "stale" not in render([read_record(new)], WORLDS).split("<body>")[1]


def test_runs_on_other_people_are_not_compared(make_run: Make) -> None:
    here, there = make_run("here"), make_run("there")
    config = json.loads((there / "config.json").read_text())
    config["data_options"]["domain"] = "V"
    (there / "config.json").write_text(json.dumps(config))
    assert len(compare([read_record(here), read_record(there)], WORLDS)) == 2


def test_contact_sheet_is_ranked(make_run: Make, tmp_path: Path, tiny_body: BodyModel) -> None:
    folder = make_run()
    sample, vertices = people(tiny_body)
    errors = SimpleNamespace(per_sample_mpjpe_mm=np.array([50.0, 10, 60, 20, 70, 30, 40]))
    model = Seer(sample.images, vertices)
    write_examples(folder, model, tiny_body, Crowd(sample), errors, per_rank=1)
    text, page = page_of(folder, output=tmp_path / "report.html")
    ranks = [[*row[0].split(), *row[-1].split()] for row in page.rows if row and "sample" in row[0]]
    assert ranks == [
        ["best", "sample", "1", "10.0", "mm"],
        ["median", "sample", "6", "40.0", "mm"],
        ["worst", "sample", "4", "70.0", "mm"],
    ]
    assert text.count("data:image/png;base64,") == 3 * 5
    assert 'alt="Federated, sample 4, from the side"' in text


def test_runs_from_one_start_share_a_sheet_of_the_same_people(
    make_run: Make, tmp_path: Path, tiny_body: BodyModel
) -> None:
    sample, vertices = people(tiny_body)
    before = SimpleNamespace(per_sample_mpjpe_mm=np.arange(7.0))
    after = SimpleNamespace(per_sample_mpjpe_mm=np.arange(7.0)[::-1])
    folders = [make_run("a", "centralized"), make_run("b", "federated")]
    for folder in folders:
        for name, scores in ((EXAMPLES_BEFORE, before), (EXAMPLES, after)):
            model, crowd = Seer(sample.images, vertices), Crowd(sample)
            write_examples(
                folder, model, tiny_body, crowd, scores, ranked_by=before, per_rank=1, name=name
            )
    text, page = page_of(*folders, output=tmp_path / "report.html")
    header = next(row for row in page.rows if row and row[0].strip() == "Rank before")
    said = [cell.strip() for cell in header[1:]]
    assert said == ["Input", "Truth", "Before", "Centralized", "Federated"]
    first = next(row for row in page.rows if row and row[0].split()[:1] == ["best"])
    assert [cell.strip() for cell in first[-3:]] == ["0.0 mm", "6.0 mm", "6.0 mm"]
    assert text.count("data:image/png;base64,") == 3 * (3 + 3 * 2)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ([9.0, 10, 11, 10], "More than chance among these people for “Federated”"),
        ([-9.0, 10, -11, 10], "It may be for “Federated”"),
    ],
)
def test_page_opens_with_what_was_found(
    make_run: Make, tmp_path: Path, gains: list[float], words: str
) -> None:
    people_mm = np.array([150.0, 160, 170, 180])
    more = {"before_people_mm": [200.0, 200, 210, 220]}
    central = make_run(
        "a", "centralized", (180.0, 165.0), after_people_mm=people_mm.tolist(), **more
    )
    apart = (people_mm - gains).tolist()
    federated = make_run("b", rounds=(180.0, 155.0), after_people_mm=apart, **more)
    text, _ = page_of(central, federated, output=tmp_path / "report.html")
    found = text[text.index('class="found"') : text.index('<table class="stacked">')]
    mean = abs(float(np.mean(gains)))
    assert words in found and f"{mean:.1f} mm" in found and "below centralized" in found
    assert "4 held-out people" in found and "one seed" in found
    questions = ("What was compared", "What was found", "Is it chance", "What left the device")
    assert [found.count(f"<strong>{question}.</strong>") for question in questions] == [1] * 4
    assert "10 clients" in found and "Federated &lt;things&gt; (“Federated”)" in found
    assert "Difference to centralized" in text


def test_nothing_is_said_of_people_that_were_not_recorded(make_run: Make, tmp_path: Path) -> None:
    folders = (make_run("a", "centralized"), make_run("b"))
    text, _ = page_of(*folders, output=tmp_path / "report.html")
    assert 'class="found"' not in text and "Difference to centralized" not in text


def test_axes_show_what_the_runs_span(make_run: Make, tmp_path: Path) -> None:
    """A baseline at 301 mm would flatten ten millimetres."""
    central = make_run("a", "centralized", (189.0, 188.0))
    text, _ = page_of(central, make_run("b", rounds=(190.0, 187.0)), output=tmp_path / "r.html")
    assert "Mean pose" not in text[text.index("<svg") : text.rindex("</svg>")]


def test_runs_are_found_below_a_folder_and_missing_ones_named(
    make_run: Make, tmp_path: Path
) -> None:
    inner, outer = make_run("demo/federated"), make_run("alone")
    assert find_runs([tmp_path]) == [outer, inner]
    assert find_runs([inner, tmp_path]) == [inner, outer]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no run in .*empty: make one"):
        find_runs([tmp_path / "empty"])
    with pytest.raises(InputError, match="gone is no folder"):
        write_report([tmp_path / "gone"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_verb_says_where_the_page_is(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "report.html"
    assert run(ReportConfig(runs=(make_run(),), output=output)) == output
    assert str(output) in capsys.readouterr().err


def test_numbers_for_people() -> None:
    assert [human_bytes(v) for v in (0.0, 999.0, 1500.0, 812e6, 3.2e13, None)] == [
        "0 B", "999 B", "1.5 kB", "812 MB", "32 TB", "n/a",
    ]  # fmt: skip
    assert [human_seconds(v) for v in (1.25, 75.0, 7300.0, None)] == [
        "1.2 s", "1 min 15 s", "2 h 1 min", "n/a",
    ]  # fmt: skip
    assert spread([None]) is None and str(spread([1.0, None, 3.0])) == "2.0 ± 1.4"


def test_a_hostile_run_is_read_without_harm(make_run: Make, tmp_path: Path) -> None:
    folder = make_run()
    (tmp_path / "secret.json").write_text('{"commit": "SECRET"}')
    (folder / "environment.json").unlink()
    (folder / "environment.json").symlink_to(tmp_path / "secret.json")
    (folder / "metrics.jsonl").unlink()
    os.mkfifo(folder / "metrics.jsonl")
    (folder / "start.json").write_text('{"a":' * 5000 + "1" + "}" * 5000)
    huge = {"kind": "$x_{", "seconds": 10**400, "after": {"mpjpe_mm": 10**400}}
    (folder / "summary.json").write_text(json.dumps(huge))
    (folder / "examples.npz").write_bytes(b"PK\x03\x04" + bytes(40))
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    text, _ = page_of(tmp_path, output=tmp_path / "report.html")
    assert "SECRET" not in text and "1 run." in text


def test_another_page_is_not_overwritten(make_run: Make, tmp_path: Path) -> None:
    output = tmp_path / "index.html"
    output.write_text("<title>My own page</title>")
    with pytest.raises(InputError, match="choose another --output"):
        write_report([make_run()], output)
    assert output.read_text() == "<title>My own page</title>"
    write_report([make_run()], tmp_path / "own.html")
    write_report([make_run()], tmp_path / "own.html")


def test_few_held_out_images_are_said_to_be_few(make_run: Make, tmp_path: Path) -> None:
    few = make_run("few", num_test_samples=3, mpjpe_half_width_mm=41.2)
    text, _ = page_of(few, output=tmp_path / "report.html")
    assert "Only 3 held-out images" in text and "± 41 mm" in text
    text, _ = page_of(make_run("many"), output=tmp_path / "many.html")
    assert "Only" not in text.split("<body>")[1]


def test_examples_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    arrays = {
        "index": np.arange(2),
        "faces": np.zeros((1, 3), int),
        "image": np.zeros((2, 4, 4, 3)),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    for content in (buffer.getvalue(), buffer.getvalue()[:-30]):
        (tmp_path / "examples.npz").write_bytes(content)
        assert read_examples(tmp_path / "examples.npz") is None
