from pathlib import Path

import pytest

from pchmr.data import pictures
from pchmr.data.errors import InputError
from pchmr.data.pictures import find_pictures, result_names, safe_name


def made(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_a_folder_gives_its_photos_and_tells_the_rest(tmp_path: Path) -> None:
    folder = made(tmp_path / "in", "b.JPG", "a.png", "c.jfif", "d.tif", "notes.txt", ".hidden.png")
    made(folder, "clip.mp4", "e.gif")
    (folder / "folder.png").mkdir()
    found = find_pictures(folder)
    assert [path.name for path in found.files] == ["a.png", "b.JPG", "c.jfif", "d.tif"]
    assert found.left_out.startswith("3 left out, not read: 1 .gif (e.gif), 1 .mp4 (clip.mp4")
    assert "1 .txt (notes.txt)" in found.left_out
    with pytest.raises(InputError, match=r"put files ending in \.jpg"):
        find_pictures(folder / "folder.png")


def test_heic_is_left_out_by_name_and_cure_where_the_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "photo_suffixes", lambda: (".jpg",))
    folder = made(tmp_path / "in", "y.jpg", *(f"{i}.HEIC" for i in range(5)))
    line = find_pictures(folder).left_out
    assert "5 .heic (0.HEIC, 1.HEIC, 2.HEIC, ...: pip install 'pchmr[heic]')" in line
    assert "\n" not in line
    with pytest.raises(InputError, match=r"is HEIC: pip install 'pchmr\[heic\]'"):
        find_pictures(folder / "0.HEIC")


def test_a_wrong_suffix_says_which_are_right(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.txt: give a photo \(\.jpg.*video \(\.mp4"):
        find_pictures(made(tmp_path, "a.txt") / "a.txt")


@pytest.mark.parametrize(
    "files",
    [
        ("a.jpg", "a.png", "a_jpg.png"),
        ("A.JPG", "a.jpg", "a.png"),
        ("a_png.jpg", "a_png.png", "a.png", "a.jpg"),
        ("a.b.jpg", "a.b.png", "a_b_jpg.png", "a_b_jpg-2.png"),
        ("e\u0301.jpg", "\u00e9.jpg"),
        ("...jpg", "-.jpg", "..jpg.png"),
        ("x" * 200 + "1.jpg", "x" * 200 + "2.jpg"),
    ],
)
def test_results_never_share_a_name(files: tuple[str, ...]) -> None:
    names = result_names([Path(file) for file in files])
    assert len({name.casefold() for name in names}) == len(files)
    assert result_names([Path("a.jpg"), Path("a.png")]) == ["a_jpg", "a_png"]


STRANGE = ["..", ".", "-rf", "--help", "a/b", "a\\b", "c:d", "a\nb", "\x1b[2J", " ", "a."]
STRANGE += ["\udcff", "é" * 200]


@pytest.mark.parametrize("stem", STRANGE)
def test_names_stay_in_the_folder(stem: str) -> None:
    name = safe_name(stem)
    assert Path("out", name).parent == Path("out") and name not in (".", "..")
    assert name[0] not in ".-" and name.isprintable() and len(name.encode()) <= 160


def test_harmless_names_stay_as_they_are() -> None:
    for stem in ("[trip] 2024", "Ünal (2)", "a.b", "日本"):
        assert safe_name(stem) == stem
