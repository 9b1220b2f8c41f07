from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.inference.figure import RedModel, picture
from tests.predict.watchers import RedWatcher

from pchmr import predict
from pchmr.body import BodyModel
from pchmr.config import DivergedError, ModelOptions, PredictConfig, SettingError
from pchmr.data.errors import InputError
from pchmr.data.pictures import find_pictures
from pchmr.inference import Predictor
from pchmr.perception.boxes import parse_box
from pchmr.predict import Tools, open_tools, people_of, run
from pchmr.progress import printable

NOTE = "note: rendered people only"


@pytest.fixture(autouse=True)
def red_model(monkeypatch: pytest.MonkeyPatch, tiny_body: BodyModel) -> None:
    """Puts the red model in the place of the one that a config asks for."""
    monkeypatch.setattr(predict, "open_tools", lambda config: tools_of(RedModel(tiny_body)))


def tools_of(model: RedModel) -> Tools:
    """The red model, and who sees red boxes as people."""
    red, body = RedWatcher(), model.body
    predictor = Predictor(model, body, RedModel.image_size)
    return Tools(predictor=predictor, prior=red, detector=red, notes=(NOTE,))


def save(path: Path, left: int = 150) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(picture(left, 40, left + 30, 120)).save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_photo_gives_three_files_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PredictConfig(images=save(tmp_path / "me.png"), output=tmp_path / "out")
    assert run(config) == tmp_path / "out"
    assert names(tmp_path / "out") == ["me.glb", "me.npz", "me_overlay.png"]
    said = capsys.readouterr().err.strip().splitlines()
    assert said[0] == NOTE and said[-1].endswith(str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"smoothing": "none"}, "--smoothing belongs to a video"),
        ({"model_options": ModelOptions(smpl_head=True)}, "--smpl-head"),
    ],
)
def test_settings_that_a_photo_ignores_are_refused(tmp_path: Path, settings, said: str) -> None:
    save(tmp_path / "in" / "me.png")
    for images in (tmp_path / "in", tmp_path / "in" / "me.png"):
        with pytest.raises(SettingError, match=said):
            run(PredictConfig(images=images, output=tmp_path / "out", **settings))
    assert not (tmp_path / "out").exists()


def test_a_photo_has_the_files_that_were_asked_for(tmp_path: Path) -> None:
    photo, output = save(tmp_path / "me.png"), tmp_path / "out"
    for format_, found in (("overlay,glb,npz", 3), ("npz", 1)):
        run(PredictConfig(images=photo, output=output, format=format_))
        assert len(names(output)) == found
    assert names(output) == ["me.npz"]


def test_folder_goes_on_after_a_bad_photo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    save(folder / "a.png")
    save(folder / "a.jpg")
    (folder / "bad.png").write_bytes(b"no photo")
    (folder / "notes.txt").touch()
    run(PredictConfig(images=folder, output=tmp_path / "out"))
    assert [n for n in names(tmp_path / "out") if n.endswith(".npz")] == ["a_jpg.npz", "a_png.npz"]
    said = capsys.readouterr().err
    assert "left out: cannot read photo" in said and "2 photos (1 left out)" in said


def test_folder_of_bad_photos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no photo")
    with pytest.raises(InputError, match="none of the 1 photos"):
        run(PredictConfig(images=tmp_path, output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def video(path: Path) -> Path:
    """Three frames of the figure, going right."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 240, 160, "yuv420p"
        for left in (20, 30, 40):
            pixels = av.VideoFrame.from_ndarray(picture(left, 40, left + 30, 120), format="rgb24")
            container.mux(stream.encode(pixels))
        container.mux(stream.encode())
    return path


def test_a_video_gives_one_file_of_each_kind(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="pip install pchmr[video]")
    path = video(tmp_path / "clip.mp4")
    run(PredictConfig(images=path, output=tmp_path / "out", format="overlay,glb,npz,bvh"))
    kinds = ("clip.glb", "clip.npz", "clip_overlay.mp4", "clip_person1.bvh", "clip_smpl.npz")
    assert names(tmp_path / "out") == sorted(kinds)
    found = np.load(tmp_path / "out" / "clip.npz")
    assert found["time_seconds"] == pytest.approx([0, 0.1, 0.2]) and found["has_person"].all()
    left, right = found["bbox_xyxy"][:, 0, 0], found["bbox_xyxy"][:, 0, 2]
    assert (np.diff(left + right) > 0).all()
    pixels = found["joints"] @ found["intrinsics"].T
    x = (pixels[..., 0] / pixels[..., 2]).mean(axis=-1)[:, 0]
    assert (np.diff(x) > 0).all()


def test_an_animated_picture_is_a_clip(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(left, 40, left + 30, 120)) for left in (20, 60, 100)]
    for name in ("a.gif", "b.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=200)
        run(PredictConfig(images=tmp_path / name, output=tmp_path / "out", format="npz"))
        assert np.load(tmp_path / "out" / f"{name[0]}.npz")["time_seconds"].tolist() == [
            0,
            0.2,
            0.4,
        ]


@pytest.mark.parametrize(
    ("photo", "bbox", "reason"),
    [
        ("me.png", "1,2,3,3", "too small to use"),
        ("me.png", "500,2,30,30", "outside"),
        ("me.png", "a,b", "four numbers"),
        ("me.png", "10,10,0,30", "positive w and h"),
        ("notes.txt", None, r"ends in \.txt: give a photo"),
        ("gone.png", None, "does not exist"),
        ("bad.png", None, "cannot read photo"),
        ("", "10,10,50,50", "instead of a folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, photo: str, bbox: str | None, reason: str
) -> None:
    save(tmp_path / "me.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    (tmp_path / "notes.txt").touch()
    config = PredictConfig(images=tmp_path / photo, bbox=bbox, output=tmp_path / "out")
    with pytest.raises((InputError, SettingError), match=reason) as error:
        run(config)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(SettingError, match="No space left on device; free some space"):
        run(PredictConfig(images=save(tmp_path / "me.png"), output=tmp_path / "out"))
    assert names(tmp_path / "out") == []


def test_bbox() -> None:
    assert parse_box(None) is None
    for text, corners in (
        ("10, 20.5,30,40", (10.0, 20.5, 40.0, 60.5)),
        ("-5,0,30,40", (-5.0, 0.0, 25.0, 40.0)),
    ):
        box = parse_box(text)
        assert box is not None and box.bbox_xyxy == corners


def test_loaded_model_says_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PCHMR_DATA", str(tmp_path))
    options = ModelOptions(from_scratch=True)
    tools = open_tools(PredictConfig(images=tmp_path, model_options=options))
    assert "random" in tools.notes[0] and not tools.predictor.model.training
    assert tools.annotator is None and "pchmr priors get blazepose" in tools.notes[1]
    blank = np.full((160, 240, 3), 255, np.uint8)
    assert people_of(blank, tools).vertices.shape == (0, 6890, 3)


@pytest.mark.parametrize("name", ["[trip] 2024", "[/a]", ":smile:", "\x1b[31mred"])
def test_names_are_shown_as_they_are(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(PredictConfig(images=save(tmp_path / "me.png"), output=tmp_path / name))
    said = capsys.readouterr().err
    assert printable(str(tmp_path / name)) in said and "\x1b" not in said
    assert name in printable(name) or name[0] == "\x1b"


def test_results_of_like_names_are_as_many_as_the_photos(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a_jpg.png", "A.PNG"):
        save(tmp_path / "in" / name)
    run(PredictConfig(images=tmp_path / "in", output=tmp_path / "out"))
    found = [n for n in names(tmp_path / "out") if n.endswith(".glb")]
    assert len({n.casefold() for n in found}) == 4


def test_a_video_named_by_dots_stays_in_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="pip install pchmr[video]")
    assert find_pictures(video(tmp_path / "...mp4")).names == ("_",)
    run(PredictConfig(images=tmp_path / "...mp4", output=tmp_path / "a" / "inner"))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["inner"]
    assert "_.glb" in names(tmp_path / "a" / "inner")


def test_what_is_left_out_is_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.gif").touch()
    run(PredictConfig(images=tmp_path / "in", output=tmp_path / "out"))
    assert "1 left out, not read: 1 .gif (b.gif)" in capsys.readouterr().err


def test_results_do_not_mix_with_the_photos(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(SettingError, match="is the folder of the photos"):
        run(PredictConfig(images=tmp_path, output=tmp_path))


def test_diverged_weights_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_body: BodyModel
) -> None:
    class Diverged(RedModel):
        def forward(self, images):
            output = super().forward(images)
            output.vertices = output.vertices * torch.nan
            return output

    monkeypatch.setattr(predict, "open_tools", lambda config: tools_of(Diverged(tiny_body)))
    with pytest.raises(DivergedError, match="not finite: its weights have diverged"):
        run(PredictConfig(images=save(tmp_path / "me.png"), output=tmp_path / "out"))


def test_everybody_is_shown_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = np.maximum(picture(150, 40, 180, 120), picture(40, 60, 60, 120))
    Image.fromarray(both).save(tmp_path / "me.png")
    run(PredictConfig(images=tmp_path / "me.png", output=tmp_path / "out"))
    assert np.load(tmp_path / "out" / "me.npz")["track_id"].tolist() == [1, 2]
    assert "2 people; choose with --person largest" in capsys.readouterr().err
    config = PredictConfig(images=tmp_path / "me.png", output=tmp_path / "out", person="largest")
    run(config)
    assert np.load(tmp_path / "out" / "me.npz")["track_id"].tolist() == [2]
    with pytest.raises(InputError, match="there are 2 people"):
        run(replace(config, person="3"))


def test_a_folder_goes_on_where_nobody_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in" / "a.png")
    Image.new("RGB", (240, 160)).save(tmp_path / "in" / "b.png")
    run(PredictConfig(images=tmp_path / "in", output=tmp_path / "out"))
    assert len(np.load(tmp_path / "out" / "b.npz")["vertices"]) == 0
    assert len(np.load(tmp_path / "out" / "a.npz")["vertices"]) == 1
    said = capsys.readouterr().err
    assert "b.png: no person was found" in said and "a.png: " not in said


@pytest.mark.parametrize(
    "given",
    [{"person": "0"}, {"person": "who"}, {"focal": -1.0}, {"bbox": "1,2,30,30", "person": "1"}],
)
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, given: dict) -> None:
    with pytest.raises(SettingError):
        PredictConfig(images=tmp_path, **given)
