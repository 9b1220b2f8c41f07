"""Pictures of labeled videos: each decoded once, each file hashed once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pchmr.data.errors import InputError
from pchmr.device import reel
from pchmr.device.reel import Pictures, Reel
from pchmr.runs import file_sha256

COUNT = 6


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often files were hashed, videos opened and frames decoded."""
    asked = {"hashed": 0, "opened": 0, "decoded": 0}

    def frames(path: Path) -> Iterator[tuple[np.ndarray, float]]:
        asked["opened"] += 1
        for number in range(COUNT):
            asked["decoded"] += 1
            yield np.full((16, 16, 3), 40 * number, np.uint8), number / 10

    def hashed(path: Path) -> str:
        asked["hashed"] += 1
        return file_sha256(path)

    monkeypatch.setattr(reel, "video_frames", frames)
    monkeypatch.setattr(reel, "file_sha256", hashed)
    return asked


def shades(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame.mean()) / 40) for frame in frames]


def test_a_clip_is_decoded_and_hashed_once(asked: dict[str, int], tmp_path: Path) -> None:
    path = tmp_path / "walk.mp4"
    path.write_bytes(b"video")
    about = {"source": str(path), "key": {"input_sha256": file_sha256(path)}}
    pictures, wanted = Pictures(), [3, 0, 5, 3, 1, 4]
    found = [pictures.frame(about, number) for number in wanted]  # type: ignore[arg-type]
    assert shades(found) == wanted
    assert asked == {"hashed": 1, "opened": 1, "decoded": COUNT}
    path.write_bytes(b"another")
    with pytest.raises(InputError, match="gone or has changed"):
        pictures.frame(about, 0)  # type: ignore[arg-type]


def test_frames_that_no_longer_fit_are_decoded_again(asked: dict[str, int]) -> None:
    film = Reel(Path("walk.mp4"), most_bytes=1)
    assert shades([film.frame(number) for number in (4, 1, 2)]) == [4, 1, 2]
    assert asked["opened"] == 2
    with pytest.raises(InputError, match="has no frame 9 any more"):
        film.frame(9)
