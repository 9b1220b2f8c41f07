"""The private folder when runs fail, are killed or are run again."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pchmr.annotate import job, labels
from pchmr.annotate.labels import MANIFEST, LabelFolder
from pchmr.annotate.modes import FITTERS
from pchmr.annotate.observed import Observations
from pchmr.annotate.pictures import Glimpse, PictureReader
from pchmr.annotate.quality import load_predictors, save_predictors
from pchmr.cli import main
from pchmr.config.annotation import ANNOTATE_MODES
from pchmr.data.pictures import find_pictures

ARRAYS = {"betas": np.zeros((1, 10))}
PICTURE = np.full((40, 40, 3), 128, dtype=np.uint8)


@pytest.fixture
def book(tmp_path: Path) -> LabelFolder:
    """A folder with one finished clip."""
    book = LabelFolder.open(tmp_path / "labels")
    book.write("clip", ARRAYS, {"mode": "auto"}, b"drawn", status={"accepted": 1})
    return book


def rows(folder: Path) -> dict[str, dict]:
    lines = (folder / MANIFEST).read_text().splitlines()
    return {row["clip"]: row for row in map(json.loads, lines)}


def test_a_failure_leaves_finished_labels_finished(book: LabelFolder) -> None:
    book.fail("clip", "no such mode")
    book.fail("other", "damaged")
    found = rows(book.path)
    assert "failed" not in found["clip"] and found["clip"]["picture"] == "clip.png"
    assert found["other"]["failed"] == "damaged"
    assert LabelFolder.open(book.path).is_finished("clip", {"mode": "auto"})
    (book.path / "clip.npz").write_bytes(b"torn")
    book.fail("clip", "damaged")
    assert rows(book.path)["clip"]["failed"] == "damaged"


def test_nothing_of_a_forgotten_clip_stays(book: LabelFolder) -> None:
    (book.path / "clip.npz").write_bytes(b"torn")
    book.fail("clip", "damaged")
    (book.path / ".clip.npz.123.tmp").write_bytes(b"half")
    book.forget("clip")
    assert not book.path.exists()


def test_a_mode_is_checked_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(ANNOTATE_MODES) == {"auto", *FITTERS}
    command = ["annotate", str(tmp_path), "--output", str(tmp_path / "out"), "--mode", "magic"]
    assert main(command) == 2
    assert "unknown mode magic" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("point", ["npz", "row", "png"])
def test_a_run_killed_in_its_first_clip_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    class KilledError(BaseException):
        pass

    def killed(path: Path, content: bytes) -> None:
        if path.suffix == ".png" or (point == "row" and b"labels_sha256" in content):
            raise KilledError
        whole(path, content)

    def torn(*_: object, **__: object) -> None:
        raise KilledError

    whole = labels.write_bytes
    folder = LabelFolder.open(tmp_path / "labels")
    with monkeypatch.context() as patch:
        patch.setattr(labels, "write_bytes", killed)
        if point == "npz":
            patch.setattr(np, "savez_compressed", torn)
        with pytest.raises(KilledError):
            folder.write("clip", ARRAYS, {"mode": "auto"}, b"drawn")
    again = LabelFolder.open(folder.path)
    assert not again.is_finished("clip", {"mode": "auto"})
    again.forget("clip")
    assert not folder.path.exists()


def test_an_opened_folder_can_be_opened_again(tmp_path: Path) -> None:
    LabelFolder.open(tmp_path)
    (tmp_path / "clip.npz").write_bytes(b"of a killed run")
    assert not LabelFolder.open(tmp_path).rows


def photos(folder: Path, *names: str) -> Path:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for shade, name in enumerate(names):
        Image.fromarray(PICTURE + shade).save(folder / name)
    return folder


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch, noisy: Observations) -> SimpleNamespace:
    """A reader that sees the same person everywhere, or breaks where it is told to."""
    seen = noisy.take(slice(0, 1))
    seen = Observations(**{**vars(seen), "keypoint_depth": None, "points": None})

    def observe(path: Path) -> Glimpse:
        if path.name in found.broken:
            raise found.broken[path.name]
        return Glimpse(seen, None, "EXIF", PICTURE)

    found = SimpleNamespace(observe=observe, provenance={}, source="oracle", broken={})
    monkeypatch.setattr(PictureReader, "open", lambda *_: found)
    monkeypatch.setattr(job, "overlay_png", lambda *_: None)
    return found


@pytest.mark.whole
def test_one_broken_photo_does_not_stop_the_rest(
    tmp_path: Path, reader: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    source = photos(tmp_path / "photos", "a.png", "b.png", "c.png")
    reader.broken = {"a.png": OSError(5, "Input/output error"), "b.png": RuntimeError("no memory")}
    command = ["annotate", str(source), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    found = rows(tmp_path / "out")
    assert "Input/output" in found["a"]["failed"] and "no memory" in found["b"]["failed"]
    assert found["c"]["num_frames"] == 1
    said = capsys.readouterr()
    assert said.err.count(".png: ") == 2 and "2 clips failed" in said.out
    reader.broken = {"c.png": RuntimeError("no memory")}
    assert main([*command, "--mode", "strong-2d"]) == 0
    assert "failed" not in rows(tmp_path / "out")["c"]
    said = capsys.readouterr()
    assert "labels of an earlier run are kept" in said.err and "1 clips failed" in said.out


def test_clips_of_a_folder_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.jpg.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    found = find_pictures(tmp_path)
    clips = {file.name: clip for clip, file in zip(found.names, found.files, strict=True)}
    assert clips == {"a.jpg": "a_jpg", "a.png": "a_png", "a.jpg.png": "a.jpg", "b.png": "b"}


@pytest.mark.whole
def test_equal_stems_of_two_folders_are_two_clips(
    tmp_path: Path, reader: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a second folder, nor a file of another kind, nor a failure takes another's labels."""
    first = photos(tmp_path / "a", "x.png")
    second = photos(tmp_path / "b", "y.png", "x.png")
    out = tmp_path / "out"
    for source in (first, second, first):
        assert main(["annotate", str(source), "--output", str(out)]) == 0
    found = rows(out)
    assert {Path(row["source"]).parent.name: clip for clip, row in found.items()
            if Path(row["source"]).name == "x.png"} == {"a": "x", "b": "x-2"}  # fmt: skip
    assert set(found) == {"x", "x-2", "y"} and (out / "x-2.npz").is_file()
    assert "1 kept from before" in capsys.readouterr().out
    third = photos(tmp_path / "c", "z.png", "w.png", "x.png")
    reader.broken = {"x.png": RuntimeError("no memory")}
    assert main(["annotate", str(third), "--output", str(out)]) == 0
    assert rows(out)["x-3"]["failed"] and "failed" not in rows(out)["x"]


def test_observations_of_another_file_are_not_overwritten(
    tmp_path: Path, noisy: Observations, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = noisy.take(slice(0, 1))
    values = {"keypoints_2d": seen.keypoints_2d, "image_size": seen.image_size,
              "keypoint_names": np.array(seen.keypoint_names)}  # fmt: skip
    for name, confidence in (("one", 1.0), ("two", 0.9)):
        table = seen.keypoints_2d * [1, 1, confidence]
        np.savez(tmp_path / f"{name}.npz", **{**values, "keypoints_2d": table})
    command = ["annotate", "--output", str(tmp_path / "out"), "--mode", "strong-2d"]
    assert main([*command, "--observations", str(tmp_path / "one.npz")]) == 0
    row = rows(tmp_path / "out")["labels"]
    assert row["calibrated"] is False and set(row["status"]) == {"review"}
    assert main([*command, "--observations", str(tmp_path / "two.npz")]) == 2
    assert "already holds labels of" in capsys.readouterr().err


@pytest.mark.whole
def test_other_predictors_and_label_versions_are_no_reason_to_keep(
    tmp_path: Path, reader: SimpleNamespace, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = photos(tmp_path / "photos", "a.png")
    command = ["annotate", str(source), "--output", str(tmp_path / "out"), "--mode", "strong-2d"]
    assert main(command) == 0
    own = load_predictors()
    save_predictors(tmp_path / "own.json", {"oracle/strong-2d": own["strong-2d"]})
    for changed in (["--error-predictor", str(tmp_path / "own.json")], []):
        assert main([*command, *changed]) == 0
        assert "kept from before" not in capsys.readouterr().out
    assert main(command) == 0
    assert "1 kept from before" in capsys.readouterr().out
    for module in (job, labels):
        monkeypatch.setattr(module, "LABEL_VERSION", labels.LABEL_VERSION + 1)
    assert main(command) == 0
    assert "kept from before" not in capsys.readouterr().out
